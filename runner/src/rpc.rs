//! The gateway's socket: listener → connection → frame → message, on which thread a call runs, its deadline.
