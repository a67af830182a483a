//! A client of `/v2/ws`.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        http::{HeaderMap, HeaderValue},
    },
};

use super::{soon, wire};

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Came while another id was waited for.
    early: Vec<Reply>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) header: Value,
    pub(crate) body: Bytes,
}

/// A request of `model` with these inputs and parameters.
pub(crate) fn infer(id: &str, model: &str, inputs: &Value, parameters: &Value) -> Value {
    json!({"type": "infer", "id": id, "model_name": model, "inputs": inputs, "parameters": parameters})
}

/// A good request of `neg`: its answer is `y = [-1, -2, -3, -4]`.
pub(crate) fn infer_x(id: &str, parameters: &Value) -> Value {
    infer(
        id,
        "neg",
        &json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]),
        parameters,
    )
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Self {
        let url = format!("{}/v2/ws", url.replacen("http", "ws", 1));
        let (socket, _) =
            soon("a connection", tokio_tungstenite::connect_async(url)).await.expect("a connection");
        Self::over(socket)
    }

    pub(crate) fn over(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket, early: Vec::new() }
    }

    /// With headers of one's own, and what the daemon answered with.
    pub(crate) async fn open(
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, HeaderMap), tungstenite::Error> {
        let url = format!("{}/v2/ws", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("a good request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header's value"));
        }
        let (socket, answer) = soon("an answer", tokio_tungstenite::connect_async(request)).await?;
        Ok((Self { socket, early: Vec::new() }, answer.headers().clone()))
    }

    /// As the owner of this key.
    pub(crate) async fn with_key(url: &str, key: &str) -> Self {
        let opened = Self::open(url, &[("authorization", &format!("Bearer {key}"))]).await;
        opened.expect("a connection").0
    }

    /// The code and reason that the daemon closes with, once all that it had to say is read.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match soon("the end", self.socket.next()).await.expect("a close frame").expect("a good message") {
                Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Message::Close(None) => panic!("closed without a reason"),
                _ => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send_frame(&mut self, header: &Value, body: &[u8]) {
        self.send_raw(Message::binary(wire::frame(header, body))).await;
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("the daemon reads");
    }

    /// The next message, whatever it answers.
    pub(crate) async fn next(&mut self) -> Reply {
        match soon("a message", self.socket.next()).await.expect("the daemon closed").expect("a good message")
        {
            Message::Text(text) => {
                let header = serde_json::from_str(&text).expect("a text message is JSON");
                Reply { header, body: Bytes::new() }
            }
            Message::Binary(bytes) => {
                let (header, body) = wire::split(&bytes);
                Reply { header, body }
            }
            other => panic!("{other:?} is no reply"),
        }
    }

    /// The reply to `id`, with others kept for later.
    pub(crate) async fn reply(&mut self, id: &str) -> Reply {
        if let Some(at) = self.early.iter().position(|reply| reply.header["id"] == id) {
            return self.early.remove(at);
        }
        loop {
            let reply = self.next().await;
            if reply.header["id"] == id {
                return reply;
            }
            self.early.push(reply);
        }
    }

    /// The next event, with replies kept for later.
    pub(crate) async fn event(&mut self) -> Reply {
        if let Some(at) = self.early.iter().position(|reply| reply.header["type"] == "event") {
            return self.early.remove(at);
        }
        loop {
            let reply = self.next().await;
            if reply.header["type"] == "event" {
                return reply;
            }
            self.early.push(reply);
        }
    }

    pub(crate) async fn ask(&mut self, request: &Value) -> Reply {
        self.send(request).await;
        self.reply(request["id"].as_str().expect("a request has an id")).await
    }

    /// Returns when the daemon has read all that was sent before.
    pub(crate) async fn caught_up(&mut self) {
        self.ask(&json!({"type": "cancel", "id": "nobody's"})).await.refused(
            "invalid_request",
            "never",
            "nobody's",
        );
    }

    /// A good request is answered.
    pub(crate) async fn serves(&mut self, parameters: &Value) {
        self.ask(&infer_x("good", parameters)).await.negated();
    }
}

impl Reply {
    #[track_caller]
    pub(crate) fn refused(&self, code: &str, retry: &str, says: &str) {
        let error = &self.header["error"];
        assert_eq!(
            (self.header["type"].as_str(), error["code"].as_str()),
            (Some("error"), Some(code)),
            "{self:?}"
        );
        assert_eq!(error["retry"], retry, "{self:?}");
        assert!(
            error["message"].as_str().is_some_and(|message| message.contains(says)),
            "{says:?}: {self:?}"
        );
    }

    /// The answer to [`infer_x`].
    #[track_caller]
    pub(crate) fn negated(&self) -> &Value {
        assert_eq!(self.header["type"], "result", "{self:?}");
        assert_eq!(self.header["outputs"][0]["data"], json!([-1.0, -2.0, -3.0, -4.0]), "{self:?}");
        self.provenance()
    }

    pub(crate) fn provenance(&self) -> &Value {
        &self.header["parameters"]["provenance"]
    }
}
