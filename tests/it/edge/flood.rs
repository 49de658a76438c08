//! Clients that keep to the letter of HTTP/1 and HTTP/2 and still mean harm: floods of frames, streams that are opened and
//! reset, requests that trickle in, answers that nobody takes. The frames are written by hand, because no client library
//! would send them.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{FULL, doors, poured, server, setup};
use crate::support::server::{TestServer, http1, http2};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// How long a test waits for the server to lose patience.
const PATIENCE: Duration = Duration::from_secs(10);

/// A frame, as RFC 9113 section 4.1 draws it.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header without the table of HPACK (RFC 7541 section 6.2.2); values are shorter than 127 bytes.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The headers of a call, as HPACK has them: the method and the scheme are in its static table.
pub(crate) fn call(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![method, 0x86];
    block.extend(literal(":path", path));
    block.extend(literal(":authority", "localhost"));
    block.extend(literal("apikey", FULL));
    block
}

const GET: u8 = 0x82;
pub(crate) const POST: u8 = 0x83;

/// A connection whose frames are written by hand.
pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects, with settings of its own: pairs of identifier and value.
    pub(crate) async fn connect(address: &str, settings: &[(u16, u32)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &payload)).await.unwrap();
        Self { stream }
    }

    /// Sends, and says whether the server still took it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// The next frame: kind, flags and payload; none once the connection is closed.
    async fn frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], payload))
    }

    /// Reads until the server closes the connection; the reason that it gave, if it did.
    async fn closed(&mut self) -> Option<u32> {
        let mut reason = None;
        let read = async {
            while let Some((kind, _, payload)) = self.frame().await {
                if kind == GOAWAY {
                    reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, read).await;
        assert!(ended.is_ok(), "the connection is still open");
        reason
    }
}

/// How much of an answer that nobody takes may be made, for all streams of a connection together.
const POURED_MAX: usize = 4 << 20;

/// That somebody else is served at once.
async fn serves_others(server: &TestServer) {
    let began = Instant::now();
    let request = http2().post(format!("{}/echo", server.url)).header("apikey", FULL);
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Sends the same bytes until the server closes the connection, which it does before so many of them were sent.
async fn flood(server: &TestServer, opening: &[u8], often: usize, repeated: &[u8]) -> Option<u32> {
    let mut raw = Raw::connect(server.address(), &[]).await;
    raw.send(opening).await;
    let many = repeated.repeat(100);
    let mut sent = 0;
    while sent < often && raw.send(&many).await {
        sent += 100;
        serves_others(server).await;
    }
    raw.closed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_opened_and_reset_end_their_connection_and_hold_up_nobody() {
    let server = server().await;
    let mut raw = Raw::connect(server.address(), &[]).await;
    let mut burst = Vec::new();
    for stream in (1..20_000).step_by(2) {
        burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &call(POST, "/slow")));
        burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    raw.send(&burst).await;
    serves_others(&server).await;
    assert_eq!(raw.closed().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_such_streams_is_a_setting() {
    let mut setup = setup();
    setup.server.stream_resets_max = 3;
    let server = TestServer::start(doors(), setup).await;
    let mut raw = Raw::connect(server.address(), &[]).await;
    let mut burst = Vec::new();
    for stream in (1..20).step_by(2) {
        burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &call(POST, "/slow")));
        burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    raw.send(&burst).await;
    assert_eq!(raw.closed().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_the_limit_is_refused_and_too_many_such_errors_end_the_connection() {
    let mut setup = setup();
    setup.server.streams_max = 2;
    setup.server.stream_errors_max = 10;
    let server = TestServer::start(doors(), setup).await;
    let mut raw = Raw::connect(server.address(), &[]).await;
    for stream in (1..200).step_by(2) {
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &call(POST, "/slow")))
            .await;
    }
    serves_others(&server).await;
    assert_eq!(raw.closed().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end_are_cut_off() {
    let server = server().await;
    let opening = frame(HEADERS, END_STREAM, 1, &call(POST, "/echo"));
    for repeated in [Vec::new(), literal("x-more", &"x".repeat(100)), vec![0x82; 1_000]] {
        flood(&server, &opening, 100_000, &frame(CONTINUATION, 0, 1, &repeated)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_content_end_their_connection() {
    let server = server().await;
    let opening = frame(HEADERS, END_HEADERS, 1, &call(POST, "/echo"));
    let reason = flood(&server, &opening, 100_000, &frame(DATA, 0, 1, &[])).await;
    assert_eq!(reason, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_want_an_answer_wait_until_it_is_taken() {
    let server = server().await;
    for repeated in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut raw = Raw::connect(server.address(), &[]).await;
        let many = repeated.repeat(1_000);
        // Nobody reads the answers: the server stops to read when nobody takes them, and the sender with it.
        let sent = async {
            for _ in 0..2_000 {
                raw.stream.write_all(&many).await?;
            }
            std::io::Result::Ok(())
        };
        drop(tokio::time::timeout(Duration::from_secs(2), sent).await);
        serves_others(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_bounded_in_number_and_size_on_both_protocols() {
    let server = server().await;
    let url = format!("{}/echo", server.url);
    let send = async |request: reqwest::RequestBuilder| request.header("apikey", FULL).send().await;
    for count in [90, 101, 5_000] {
        let mut request = http1().post(&url);
        for number in 0..count {
            request = request.header(format!("x-{number}"), "1");
        }
        let expected = if count < 100 { 200 } else { 431 };
        assert_eq!(send(request).await.unwrap().status(), expected, "{count} headers");
    }
    let large = "x".repeat(20_000);
    assert_eq!(
        send(http1().post(&url).header("x-large", &large))
            .await
            .unwrap()
            .status(),
        431
    );
    // Over HTTP/2 the client is told the limit beforehand, and one that is well-behaved does not send.
    let answer = send(http2().post(&url).header("x-large", &large)).await;
    assert!(answer.is_err() || answer.unwrap().status() == 431);
    serves_others(&server).await;
}

#[tokio::test]
async fn the_number_of_headers_is_a_setting() {
    let mut setup = setup();
    setup.server.headers_max = 20;
    let server = TestServer::start(doors(), setup).await;
    for (count, expected) in [(10, 200), (30, 431)] {
        let mut request = http1().post(format!("{}/echo", server.url)).header("apikey", FULL);
        for number in 0..count {
            request = request.header(format!("x-{number}"), "1");
        }
        assert_eq!(request.send().await.unwrap().status(), expected, "{count} headers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_uri_is_refused_on_both_protocols() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let long = format!("GET /echo?search={} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    // It may be cut off while it still speaks.
    drop(stream.write_all(long.as_bytes()).await);
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert!(matches!(&start, b"HTTP/1.1 414" | b"HTTP/1.1 431"), "{start:?}");
    let mut raw = Raw::connect(server.address(), &[]).await;
    // A path of 17,000 bytes: its length in HPACK's form of numbers with a prefix of seven bits.
    let mut block = vec![POST, 0x86, 0x04, 0x7f, 0xe9, 0x83, 0x01];
    block.extend([b'/'].repeat(17_000));
    let (first, rest) = block.split_at(16_000);
    raw.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    raw.send(&frame(CONTINUATION, END_HEADERS, 1, rest)).await;
    let mut refused = false;
    let read = async {
        while let Some((kind, _, payload)) = raw.frame().await {
            // The digits 431 in HPACK's code, which is RFC 7541 appendix B.
            let status = kind == HEADERS && payload.windows(3).any(|code| code == [0x69, 0x90, 0xff]);
            refused |= status || matches!(kind, RST_STREAM | GOAWAY);
            if refused {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    assert!(refused);
    serves_others(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_coming_is_refused_and_its_connection_closed() {
    let mut setup = setup();
    setup.edge.body_read_timeout = Duration::from_millis(200);
    let server = TestServer::start(doors(), setup).await;
    let head = format!("POST /echo HTTP/1.1\r\nhost: x\r\napikey: {FULL}\r\ncontent-length: 900\r\n\r\nabc");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    assert!(read.is_ok(), "the connection is still open");
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("ERR_DEADLINE_EXCEEDED"), "{answer}");
    // Over HTTP/2 the stream is answered, and others of its connection go on.
    let mut raw = Raw::connect(server.address(), &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &call(POST, "/echo"))).await;
    raw.send(&frame(DATA, 0, 1, b"abc")).await;
    let read = async {
        while let Some((kind, _, payload)) = raw.frame().await {
            if kind == DATA && String::from_utf8_lossy(&payload).contains("ERR_DEADLINE_EXCEEDED") {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, read).await.unwrap());
    assert!(
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &call(POST, "/echo")))
            .await
    );
    assert!(raw.frame().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_in_is_cut_by_the_deadline() {
    let mut setup = setup();
    setup.edge.body_read_timeout = Duration::from_secs(5);
    setup.edge.deadline_max = Duration::from_millis(400);
    let server = TestServer::start(doors(), setup).await;
    let head = format!("POST /echo HTTP/1.1\r\nhost: x\r\napikey: {FULL}\r\ncontent-length: 900\r\n\r\n");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < PATIENCE && stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut seen = [0; 1_000];
        if let Ok(count) = stream.try_read(&mut seen) {
            let text = String::from_utf8_lossy(&seen[..count]);
            assert!(text.starts_with("HTTP/1.1 504 "), "{text}");
            return;
        }
    }
    panic!("nothing was answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_answer_is_cut_off_over_http1() {
    let mut setup = setup();
    setup.server.write_timeout = Duration::from_millis(300);
    let server = TestServer::start(doors(), setup).await;
    let request = format!("GET /pour?http1 HTTP/1.1\r\nhost: x\r\napikey: {FULL}\r\n\r\n");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut taken = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut taken)).await;
    assert!(read.is_ok(), "the connection is still open after {} bytes", taken.len());
    let poured = poured("http1");
    assert!(
        poured < taken.len() + POURED_MAX,
        "{poured} bytes for {} taken",
        taken.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_answer_is_cut_off_over_http2_even_while_the_socket_is_read() {
    let mut setup = setup();
    setup.server.write_timeout = Duration::from_millis(300);
    let server = TestServer::start(doors(), setup).await;
    // SETTINGS_INITIAL_WINDOW_SIZE of 0: no byte of any answer may be sent.
    let mut none = Raw::connect(server.address(), &[(4, 0)]).await;
    for stream in (1..100).step_by(2) {
        none.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &call(GET, "/pour?none"),
        ))
        .await;
    }
    none.closed().await;
    // A window that is used up, and a client that answers pings all the same.
    let mut some = Raw::connect(server.address(), &[]).await;
    some.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &call(GET, "/pour?some")))
        .await;
    some.closed().await;
    for name in ["none", "some"] {
        let poured = poured(name);
        assert!(poured < POURED_MAX, "{name}: {poured} bytes");
    }
    serves_others(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_an_answer_slowly_but_takes_it_is_served() {
    let mut setup = setup();
    setup.server.write_timeout = Duration::from_millis(400);
    let server = TestServer::start(doors(), setup).await;
    let mut raw = Raw::connect(server.address(), &[]).await;
    raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &call(GET, "/pour?slow")))
        .await;
    let (mut taken, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_secs(2) {
        let (kind, _, payload) = raw.frame().await.unwrap();
        if kind == DATA {
            taken += payload.len();
            // Half of a window at a time, with a pause.
            if taken % 32_768 < payload.len() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
            raw.send(&frame(WINDOW_UPDATE, 0, 0, &size)).await;
            raw.send(&frame(WINDOW_UPDATE, 0, 1, &size)).await;
        }
    }
    assert!(taken > 300_000, "only {taken} bytes were taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_is_not_taken_for_one_that_nobody_reads() {
    let mut setup = setup();
    setup.server.write_timeout = Duration::from_millis(200);
    let server = TestServer::start(doors(), setup).await;
    for client in [http1(), http2()] {
        let request = client.get(format!("{}/stream", server.url)).header("apikey", FULL);
        let mut answer = request.send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 1\n\n");
        let more = tokio::time::timeout(Duration::from_secs(1), answer.chunk()).await;
        assert!(more.is_err(), "it is still open: {more:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait_until_others_end() {
    let mut setup = setup();
    setup.server.connections_max = 2;
    let server = TestServer::start(doors(), setup).await;
    let hold = async || TcpStream::connect(server.address()).await.unwrap();
    let (first, _second) = (hold().await, hold().await);
    let mut third = hold().await;
    third
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut start = [0; 12];
    let early = tokio::time::timeout(Duration::from_millis(300), third.read_exact(&mut start)).await;
    assert!(early.is_err(), "it was served beside two others");
    drop(first);
    tokio::time::timeout(PATIENCE, third.read_exact(&mut start))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}
