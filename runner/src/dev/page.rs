//! nginx's reason phrases and error pages.

/// The phrase on the status line; empty for a status that nginx has no name for.
pub(super) fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Moved Temporarily",
        401 => "Unauthorized",
        405 => "Not Allowed",
        494..=497 => "",
        _ => title(status).unwrap_or(if status == 304 { "Not Modified" } else { "" }),
    }
}

/// The page for a status; `None` for one that nginx answers with an empty body.
pub(super) fn html(status: u16, reason: Option<&str>) -> Option<String> {
    let title = title(status)?;
    let reason = reason
        .map(|reason| format!("<p>{}</p>\r\n", escape(reason)))
        .unwrap_or_default();
    Some(format!(
        "<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n\
         <center><h1>{status} {title}</h1></center>\r\n{reason}\
         <hr><center>plugin-runner dev</center>\r\n</body>\r\n</html>\r\n"
    ))
}

fn title(status: u16) -> Option<&'static str> {
    Some(match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Authorization Required",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Time-out",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => return None,
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
