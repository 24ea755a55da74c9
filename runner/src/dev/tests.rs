//! What the recordings cannot show one request at a time: many requests at once, the pool, sizes, a changed routes file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Barrier;

use super::inspect::Inspector;
use super::journal::Journal;
use super::routes::Routes;
use super::server::Gateway;
use super::session::Session;
use super::wire;

const DEADLINE: Duration = Duration::from_secs(20);
const NO_ACTION: [u8; 20] = [12, 0, 0, 0, 0, 0, 6, 0, 4, 0, 4, 0, 6, 0, 0, 0, 1, 0, 0, 0];
const TOKEN: [u8; 20] = [12, 0, 0, 0, 0, 0, 6, 0, 8, 0, 4, 0, 6, 0, 0, 0, 56, 0, 0, 0];
const ASK_REQUEST_BODY: [u8; 32] = [
    12, 0, 0, 0, 8, 0, 12, 0, 11, 0, 4, 0, 8, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 2, 4, 0, 4, 0, 4, 0,
    0, 0,
];
const ROUTE: &str = "routes:\n  - {id: 1, uri: /a, plugins: {ext-plugin-pre-req: {conf: [{name: p, value: v}]}}}\n#END\n";

/// How the fake runner treats a request call.
enum Manner {
    Answer,
    /// Answers when so many calls are waiting.
    Together(Barrier),
    Twice,
    AskForBody,
}

/// A runner that counts what reaches it.
struct Fake {
    manner: Manner,
    prepared: AtomicUsize,
    calls: AtomicUsize,
    connections: AtomicUsize,
    closed: AtomicUsize,
}

struct World {
    folder: tempfile::TempDir,
    fake: Arc<Fake>,
    address: String,
}

impl World {
    async fn new(manner: Manner) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let counter = AtomicUsize::default;
        let (prepared, calls, connections, closed) = (counter(), counter(), counter(), counter());
        let fake = Arc::new(Fake {
            manner,
            prepared,
            calls,
            connections,
            closed,
        });
        let socket = folder.path().join("runner.sock");
        tokio::spawn(fake.clone().listen(UnixListener::bind(&socket).unwrap()));
        let file = folder.path().join("apisix.yaml");
        std::fs::write(&file, ROUTE).unwrap();
        let gateway = Gateway::new(
            Session::new(socket),
            Routes::read(&file).unwrap(),
            file,
            None,
            Inspector::new(Arc::new(Journal::new(false)), None, None).unwrap(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(Arc::new(gateway).serve(listener));
        Self {
            folder,
            fake,
            address,
        }
    }

    fn routes(&self) -> PathBuf {
        Path::new(self.folder.path()).join("apisix.yaml")
    }

    async fn get(&self) -> String {
        send(&self.address, b"").await
    }
}

async fn send(address: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

impl Fake {
    async fn listen(self: Arc<Self>, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            self.connections.fetch_add(1, Ordering::SeqCst);
            let fake = self.clone();
            tokio::spawn(async move {
                fake.serve(stream).await;
                fake.closed.fetch_add(1, Ordering::SeqCst);
            });
        }
    }

    async fn serve(&self, mut stream: UnixStream) {
        let mut header = [0; 4];
        while stream.read_exact(&mut header).await.is_ok() {
            let mut payload =
                vec![0; u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize];
            stream.read_exact(&mut payload).await.unwrap();
            let reply = self.reply(header[0]).await;
            let _ = stream.write_all(&reply).await;
        }
    }

    async fn reply(&self, kind: u8) -> Vec<u8> {
        if kind == wire::PREPARE_CONF {
            self.prepared.fetch_add(1, Ordering::SeqCst);
            return frame(kind, &TOKEN);
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        match &self.manner {
            Manner::Answer => frame(kind, &NO_ACTION),
            Manner::Together(barrier) => {
                barrier.wait().await;
                frame(kind, &NO_ACTION)
            }
            Manner::Twice => frame(kind, &NO_ACTION).repeat(2),
            Manner::AskForBody => frame(wire::EXTRA_INFO, &ASK_REQUEST_BODY),
        }
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, payload.len() as u8], payload].concat()
}

async fn wait_for(what: &AtomicUsize, expected: usize) {
    let reached = async {
        while what.load(Ordering::SeqCst) != expected {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, reached).await;
    assert!(
        waited.is_ok(),
        "{} instead of {expected}",
        what.load(Ordering::SeqCst)
    );
}

#[tokio::test]
async fn many_first_requests_prepare_once_and_leave_32_connections() {
    let world = World::new(Manner::Together(Barrier::new(48))).await;
    let requests = (0..48).map(|_| {
        let address = world.address.clone();
        tokio::spawn(async move { send(&address, b"").await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert!(request.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    }
    assert_eq!(world.fake.prepared.load(Ordering::SeqCst), 1);
    assert!(world.fake.connections.load(Ordering::SeqCst) >= 48);
    let surplus = world.fake.connections.load(Ordering::SeqCst) - 32;
    wait_for(&world.fake.closed, surplus).await;
}

#[tokio::test]
async fn a_second_reply_is_never_taken_for_the_next_calls_answer() {
    let world = World::new(Manner::Twice).await;
    for calls in 1..=3 {
        assert!(world.get().await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(world.fake.calls.load(Ordering::SeqCst), calls);
    }
    wait_for(&world.fake.closed, 2).await;
}

#[tokio::test]
async fn a_body_that_no_frame_holds_is_a_503_with_the_reason() {
    let world = World::new(Manner::AskForBody).await;
    let response = send(&world.address, &vec![b'x'; 1 << 24]).await;
    assert!(
        response.starts_with("HTTP/1.1 503 Service Temporarily Unavailable\r\n"),
        "{response}"
    );
    assert!(
        response.contains("max length of data is 16777215"),
        "{response}"
    );
}

#[tokio::test]
async fn a_changed_routes_file_serves_at_the_next_request_and_a_bad_one_does_not() {
    let world = World::new(Manner::Answer).await;
    assert!(world.get().await.starts_with("HTTP/1.1 200 OK\r\n"));
    std::fs::write(world.routes(), format!("# longer by a line\n{ROUTE}")).unwrap();
    assert!(world.get().await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(world.fake.prepared.load(Ordering::SeqCst), 2);
    std::fs::write(world.routes(), "routes: nonsense\n").unwrap();
    assert!(world.get().await.starts_with("HTTP/1.1 200 OK\r\n"));
    std::fs::write(world.routes(), ROUTE.replace("/a", "/elsewhere")).unwrap();
    assert!(world.get().await.starts_with("HTTP/1.1 404 Not Found\r\n"));
}

#[tokio::test]
async fn the_echo_upstream_shows_the_request_in_the_documented_form() {
    let world = World::new(Manner::Answer).await;
    let response = send(&world.address, b"hello").await;
    let body = response.split_once("\r\n\r\n").unwrap().1;
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines[0], "POST /a");
    assert_eq!(lines[1], "host: t");
    assert!(lines.contains(&"content-length: 5"));
    assert!(body.ends_with("\n\nhello"));
}

#[tokio::test]
async fn without_a_runner_the_client_gets_503_with_the_reason() {
    let world = World::new(Manner::Answer).await;
    std::fs::remove_file(world.folder.path().join("runner.sock")).unwrap();
    let response = world.get().await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(
        response.contains("failed to connect to the unix socket"),
        "{response}"
    );
}
