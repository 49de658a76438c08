//! How large a request may be, on the wire and unpacked, and how slow its sender.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{FULL, doors, read, server, setup};
use crate::support::server::{TestServer, http1, http2};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_over_http1_and_http2() {
    let server = server().await;
    for client in [http1(), http2()] {
        for (size, expected) in [(1_000, 200), (1_001, 413), (3_000_000, 413)] {
            let request = client.post(format!("{}/echo", server.url)).header("apikey", FULL);
            let (status, body) = read(request.body(vec![b'x'; size]).send().await.unwrap()).await;
            assert_eq!(status, expected, "{size} bytes");
            if status == 413 {
                let problem = "request body must not be larger than 1000 bytes after decompression";
                assert_eq!(body["error"]["code"], json!("ERR_PAYLOAD_TOO_LARGE"));
                assert_eq!(body["error"]["devMessage"], json!(problem));
                assert_eq!(body["error"]["details"], json!({"limitBytes": "1000"}));
            }
        }
    }
}

#[tokio::test]
async fn a_body_without_length_is_counted_as_it_comes() {
    let server = server().await;
    for client in [http1(), http2()] {
        let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100]));
        let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let request = client.post(format!("{}/echo", server.url)).header("apikey", FULL);
        assert_eq!(request.body(body).send().await.unwrap().status(), 413);
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending_a_large_body() {
    let server = server().await;
    let large = vec![b'x'; 6 * 1024 * 1024];
    for client in [http1(), http2()] {
        for (path, key, expected) in [
            ("nowhere", FULL, 404),
            ("healthz", FULL, 405),
            ("echo", "a-key-that-nobody-was-ever-given-0001", 401),
            ("operate", FULL, 403),
            ("echo", FULL, 413),
        ] {
            let request = client.post(format!("{}/{path}", server.url)).header("apikey", key);
            let (status, body) = read(request.body(large.clone()).send().await.unwrap()).await;
            assert_eq!(status, expected, "{path}: {body}");
            assert!(body["error"]["code"].is_string(), "{path}: {body}");
        }
    }
}

#[tokio::test]
async fn who_asks_before_sending_is_refused_without_sending() {
    let server = server().await;
    let head = "POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\nexpect: 100-continue\r\n\r\n";
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    let began = Instant::now();
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 404");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_gzip_bomb_is_stopped_at_the_unpacked_limit() {
    let server = server().await;
    let call = async |body: Vec<u8>| {
        let request = http1().post(format!("{}/echo", server.url)).header("apikey", FULL);
        read(
            request
                .header("content-encoding", "gzip")
                .body(body)
                .send()
                .await
                .unwrap(),
        )
        .await
    };
    let bomb = gzip(&vec![0; 100_000]);
    assert!(bomb.len() < 1_000, "it passes the limit on the wire");
    assert_eq!(call(bomb).await.0, 413);
    let (status, body) = call(gzip(&[b'x'; 1_000])).await;
    assert_eq!((status, &body["bytes"]), (200, &json!(1_000)));
}

#[tokio::test]
async fn an_encoding_that_is_not_read_is_415() {
    let server = server().await;
    let request = http1().post(format!("{}/echo", server.url)).header("apikey", FULL);
    let (status, body) = read(request.header("content-encoding", "br").body("x").send().await.unwrap()).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (415, &json!("ERR_UNSUPPORTED_MEDIA_TYPE"))
    );
    assert_eq!(body["error"]["details"], json!({"contentEncoding": "br"}));
}

#[tokio::test]
async fn who_sends_headers_too_slowly_is_cut_off() {
    let mut setup = setup();
    setup.server.header_read_timeout = Duration::from_millis(200);
    let server = TestServer::start(doors(), setup).await;
    for start in ["", "P", "PRI * HTTP/2.0\r\n", "POST /echo HTTP/1.1\r\nhost: x\r\n"] {
        let began = Instant::now();
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open after {:?}: {start:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_broken_start_of_http2_leaves_the_server_well() {
    let server = server().await;
    for start in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage garbage garbage",
        "\0\0\0\0",
        "CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n",
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // What it answers, if anything, is its own affair.
        drop(tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await);
    }
    let request = http2().post(format!("{}/echo", server.url)).header("apikey", FULL);
    assert_eq!(request.send().await.unwrap().status(), 200);
}
