//! Answers every request with 503 and the reason, while there is nothing to serve yet: the first build is under way,
//! or has failed.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Accepts until this future is dropped. Connections are closed after their answer, so that the gateway gets the next.
pub(super) async fn serve(listener: &TcpListener, reason: Arc<RwLock<String>>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer(stream, reason.clone()))),
            // Too many open files: let some of them be closed.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn answer(stream: TcpStream, reason: Arc<RwLock<String>>) {
    let service = service_fn(move |_: Request<Incoming>| {
        let reason = reason
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        async move { Ok::<_, Infallible>(refusal(&reason)) }
    });
    let mut builder = http1::Builder::new();
    let connection = builder.keep_alive(false);
    // Ends with an error when the client goes: nothing to do about it.
    let _ = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn refusal(reason: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("not serving yet: {reason}\n")));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("retry-after", HeaderValue::from_static("1"));
    response
}
