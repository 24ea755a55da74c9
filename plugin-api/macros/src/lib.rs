//! The attributes of gateway-plugin-api.
