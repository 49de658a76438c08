//! The end: calls in flight finish, streams say goodbye, and what does not end is cut.

use std::time::Duration;

use campanile::api::server::Ended;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{FULL, channel, doors, server, setup};
use crate::support::server::{TestServer, http1, http2};

#[tokio::test]
async fn calls_in_flight_finish_and_new_connections_are_refused() {
    let server = server().await;
    let url = format!("{}/slow", server.url);
    let clients = [http1(), http2()];
    let calls = (0..20).map(|number| clients[number % 2].post(&url).header("apikey", FULL).send());
    let calls = join_all(calls);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.stop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(http1().post(&url).send().await.is_err(), "nobody listens any more");
    };
    let (answers, ()) = futures::join!(calls, stop);
    for answer in answers {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(server.ended().await, Ended::Drained);
}

/// Makes a call on a connection, and reads until the connection ends or the answer does.
async fn call(connection: &mut TcpStream) -> String {
    let call = b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n";
    connection.write_all(call).await.unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 4_096]);
    while !answer.ends_with('}') {
        match connection.read(&mut piece).await.unwrap() {
            0 => break,
            count => answer.push_str(std::str::from_utf8(&piece[..count]).unwrap()),
        }
    }
    answer
}

/// Nothing more comes, because the server has closed the connection in order.
async fn is_closed(connection: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(5), connection.read(&mut [0; 64])).await;
    read.unwrap().unwrap() == 0
}

#[tokio::test]
async fn whoever_had_connected_when_the_server_was_stopped_is_answered() {
    for _ in 0..8 {
        let server = server().await;
        // Connected by blocking calls on the server's own thread, so that it finds them and the stop at the same moment.
        let connect = || std::net::TcpStream::connect(server.address()).unwrap();
        let connections: Vec<_> = (0..8).map(|_| connect()).collect();
        server.stop();
        for connection in connections {
            connection.set_nonblocking(true).unwrap();
            let mut connection = TcpStream::from_std(connection).unwrap();
            let answer = call(&mut connection).await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
                "{answer}"
            );
            assert!(is_closed(&mut connection).await);
        }
        assert_eq!(server.ended().await, Ended::Drained);
    }
}

#[tokio::test]
async fn a_connection_that_is_kept_is_closed_behind_an_answer_or_when_none_is_asked_for() {
    let server = server().await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(server.address()).await.unwrap();
        let answer = call(&mut connection).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && !answer.contains("connection: close"),
            "{answer}"
        );
        kept.push(connection);
    }
    server.stop();
    // The client cannot know of the stop yet when it sends this.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = call(&mut kept[0]).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
    for connection in &mut kept {
        assert!(is_closed(connection).await);
    }
    assert_eq!(server.ended().await, Ended::Drained);
}

#[tokio::test]
async fn a_stream_is_told_that_the_server_stops() {
    let server = server().await;
    let request = http1().get(format!("{}/stream", server.url)).header("apikey", FULL);
    let response = request.send().await.unwrap();
    server.stop();
    let text = tokio::time::timeout(Duration::from_secs(5), response.text())
        .await
        .unwrap()
        .unwrap();
    assert!(
        text.starts_with("data: 1\n\nevent: error\ndata: {\"error\":{\"code\":\"ERR_UNAVAILABLE\""),
        "{text}"
    );
    assert_eq!(server.ended().await, Ended::Drained);
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let server = server().await;
    let request = http1().get(format!("{}/stream", server.url)).header("apikey", FULL);
    let response = request.header("grpc-timeout", "100m").send().await.unwrap();
    let text = response.text().await.unwrap();
    assert!(
        text.contains("event: error\ndata: {\"error\":{\"code\":\"ERR_DEADLINE_EXCEEDED\""),
        "{text}"
    );
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let mut setup = setup();
    setup.server.drain = Duration::from_millis(50);
    let server = TestServer::start(doors(), setup).await;
    let call = http1()
        .post(format!("{}/slow", server.url))
        .header("apikey", FULL)
        .send();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.stop();
    };
    let (answer, ()) = futures::join!(call, stop);
    assert!(answer.is_err());
    assert_eq!(server.ended().await, Ended::Cut(1));
}

#[tokio::test]
async fn a_watcher_of_health_hears_of_the_stop_and_is_let_go() {
    let server = server().await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel(&server).await);
    let ask = tonic_health::pb::HealthCheckRequest::default();
    let mut watch = client.watch(ask).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "serving");
    server.stop();
    let last = loop {
        match watch.message().await {
            Ok(Some(answer)) => assert_eq!(answer.status, 2, "not serving"),
            other => break other,
        }
    };
    assert_eq!(last.unwrap_err().code(), tonic::Code::Unavailable);
    assert_eq!(server.ended().await, Ended::Drained);
}
