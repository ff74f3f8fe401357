//! A server for tests that does to each request what a script says, and keeps every request for the test to look at.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use url::Url;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Method and target, as in `GET /v1/config?warehouse=w`.
    pub(crate) line: String,
    /// Names in lowercase.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What a script does about a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(String, String)>, String),
    /// Closes the connection without a word.
    Hangup,
    /// Waits first.
    Late(Duration, Box<Self>),
}

type Script = Mutex<dyn FnMut(&Seen) -> Reply + Send>;

pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stopped: Arc<AtomicBool>,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Answer(status, vec![("content-type".into(), "application/json".into())], body.to_string())
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer(status, mut headers, body) => {
                headers.push((name.into(), value.into()));
                Self::Answer(status, headers, body)
            }
            other => other,
        }
    }
}

impl Server {
    /// The script is asked about one request after another.
    pub(crate) fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(Mutex::new(script));
        let (log, end) = (Arc::clone(&seen), Arc::clone(&stopped));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                // A client that goes away in the middle is part of some tests.
                thread::spawn(move || stream.and_then(|stream| serve(stream, &log, &script)).ok());
            }
        });
        Self { address, seen, stopped }
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap()
    }

    /// Everything that was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees the end.
        TcpStream::connect(self.address).ok();
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, script: &Script) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(seen) = request(&mut reader)? {
        log.lock().unwrap().push(seen.clone());
        let mut reply = (script.lock().unwrap())(&seen);
        while let Reply::Late(wait, then) = reply {
            thread::sleep(wait);
            reply = *then;
        }
        let Reply::Answer(status, headers, body) = reply else { return Ok(()) };
        let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
        // An answer to HEAD names the length of a body that it has not.
        if !headers.iter().any(|(name, _)| name == "content-length") {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        (&stream).write_all(format!("{text}\r\n{body}").as_bytes())?;
    }
    Ok(())
}

fn request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length: &String| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Ok(Some(Seen { line, headers, body: String::from_utf8(body).unwrap() }))
}
