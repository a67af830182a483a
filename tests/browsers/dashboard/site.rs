//! A way to a daemon's pages that adds a script of the test's to the dashboard, and can cut its connections.
//!
//! The page's own policy stays as it is: the script comes from the page's address.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

/// What the script tells.
const TOLD: &str = "/test/told?";

#[derive(Clone)]
pub(crate) struct Site {
    /// The daemon's host and port, and ours.
    daemon: Arc<str>,
    own: Arc<str>,
    script: Arc<str>,
    told: mpsc::Sender<String>,
    /// Whether connections pass; those under way are cut when they no longer do.
    passes: Arc<watch::Sender<bool>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// The page's address, and what its script tells.
    pub(crate) async fn serve(daemon: &str, script: String) -> (String, Self, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let (told, telling) = mpsc::channel(64);
        let site = Self {
            daemon: daemon.strip_prefix("http://").unwrap().into(),
            own: own.as_str().into(),
            script: script.into(),
            told,
            passes: Arc::new(watch::Sender::new(true)),
            asked: Arc::default(),
        };
        let serving = site.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().answer(stream));
            }
        });
        (format!("http://{own}"), site, telling)
    }

    /// The paths that the page has asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn answer(self, mut stream: TcpStream) -> Option<()> {
        let head = head(&mut stream).await?;
        let path = head.split(' ').nth(1)?.to_owned();
        self.asked.lock().unwrap().push(path.clone());
        if let Some(said) = path.strip_prefix(TOLD) {
            // A test that has seen enough no longer listens.
            let _ = self.told.send(unhex(said)).await;
            return own(&mut stream, "text/plain", "").await;
        }
        match path.as_str() {
            "/test/script.js" => return own(&mut stream, "text/javascript", &self.script).await,
            "/test/cut" | "/test/mend" => {
                self.passes.send_replace(path == "/test/mend");
                return own(&mut stream, "text/plain", "").await;
            }
            _ => {}
        }
        let mut passes = self.passes.subscribe();
        if !*passes.borrow_and_update() {
            return None;
        }
        let mut daemon = TcpStream::connect(&*self.daemon).await.ok()?;
        let is_upgrade = head.to_ascii_lowercase().contains("\r\nupgrade: websocket");
        daemon.write_all(self.rewritten(&head, is_upgrade).as_bytes()).await.ok()?;
        if path == "/" || path.starts_with("/?") {
            return self.page(&mut stream, &mut daemon).await;
        }
        tokio::select! {
            _ = copy_bidirectional(&mut stream, &mut daemon) => {}
            _ = passes.wait_for(|passes| !*passes) => {}
        }
        Some(())
    }

    /// As the daemon wants to be called, and one request for each connection.
    fn rewritten(&self, head: &str, is_upgrade: bool) -> String {
        let lines = head.trim_end().split("\r\n").filter_map(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            match name.as_str() {
                "host" | "origin" => Some(line.replace(&*self.own, &self.daemon)),
                "connection" if !is_upgrade => None,
                _ => Some(line.to_owned()),
            }
        });
        let mut lines: Vec<_> = lines.collect();
        if !is_upgrade {
            lines.push("Connection: close".to_owned());
        }
        lines.join("\r\n") + "\r\n\r\n"
    }

    /// The dashboard's page with one script more.
    async fn page(&self, stream: &mut TcpStream, daemon: &mut TcpStream) -> Option<()> {
        let mut answer = String::new();
        daemon.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let body =
            body.replace("</html>", "<script type=\"module\" src=\"/test/script.js\"></script></html>");
        let kept = |line: &&str| {
            let name = line.to_ascii_lowercase();
            !["content-length", "content-encoding"].iter().any(|gone| name.starts_with(gone))
        };
        let head: Vec<_> = head.split("\r\n").filter(kept).collect();
        let answer = format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len());
        stream.write_all(answer.as_bytes()).await.ok()
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn own(stream: &mut TcpStream, kind: &str, body: &str) -> Option<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncache-control: no-store\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.ok()
}

fn unhex(text: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    String::from_utf8((0..text.len()).step_by(2).map(byte).collect()).unwrap()
}
