//! A proxy before PostgreSQL that loses an answer or holds a request back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What is done with the next update that passes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Trick {
    /// The server does it; its answer is kept back, and the connection ends.
    LoseAnswer = 1,
    /// It waits here until it is released.
    HoldRequest = 2,
}

pub(super) struct Proxy {
    pub(super) address: String,
    shared: Arc<Shared>,
    /// Ends with the test.
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    trick: AtomicU8,
    released: Notify,
}

impl Proxy {
    pub(super) async fn to(server: &str) -> Self {
        Self::at("127.0.0.1:0", server).await
    }

    pub(super) async fn at(address: &str, server: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::<Shared>::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, server.to_owned(), Arc::clone(&shared)));
        Self { address, shared, _serving: serving }
    }

    pub(super) fn play(&self, trick: Trick) {
        self.shared.trick.store(trick as u8, Ordering::SeqCst);
    }

    pub(super) fn release(&self) {
        self.shared.released.notify_one();
    }
}

async fn serve(listener: TcpListener, server: String, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
        let (requested, answered) = (Arc::clone(&shared), Arc::clone(&shared));
        connections.spawn(async move {
            // What is held back arrives at the server even when its client has gone.
            tokio::join!(requests(from_client, to_server, &requested), answers(from_server, to_client, &answered));
        });
    }
}

async fn requests(mut client: impl AsyncReadExt + Unpin, mut server: impl AsyncWriteExt + Unpin, shared: &Shared) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut bytes).await {
        let request = &bytes[..length];
        // Only the update is bound to the name of a metadata file.
        if contains(request, b".metadata.json") && shared.takes(Trick::HoldRequest) {
            shared.released.notified().await;
        }
        if server.write_all(request).await.is_err() {
            return;
        }
    }
}

async fn answers(mut server: impl AsyncReadExt + Unpin, mut client: impl AsyncWriteExt + Unpin, shared: &Shared) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = server.read(&mut bytes).await {
        let answer = &bytes[..length];
        if contains(answer, b"UPDATE 1\0") && shared.takes(Trick::LoseAnswer) {
            return;
        }
        if client.write_all(answer).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Whether this trick is to be played now; each is played once.
    fn takes(&self, trick: Trick) -> bool {
        self.trick.compare_exchange(trick as u8, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
