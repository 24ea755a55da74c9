//! The messages against the captures and against the generated code.
