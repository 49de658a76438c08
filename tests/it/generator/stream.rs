//! Server streams over REST, on the stream that counts.

use campanile::api::rest::dialect::CAMPAIGNS;

use crate::support::test_service::{Rest, grpc, pb};

#[tokio::test]
async fn events_have_ids_names_and_data() {
    let answer = Rest::new(&CAMPAIGNS).plain("GET /v3/test/count/3").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(
        answer.text,
        "id: 1\nevent: tick\ndata: {\"number\":1}\n\n\
         id: 2\nevent: tick\ndata: {\"number\":2}\n\n\
         id: 3\nevent: heartbeat\ndata: {}\n\n"
    );
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_last_event() {
    let rest = Rest::new(&CAMPAIGNS);
    let answer = rest.send("GET /v3/test/count/4", &[("last-event-id", "3")], "").await;
    assert_eq!(answer.text, "id: 4\nevent: tick\ndata: {\"number\":4}\n\n");
    let answer = rest
        .send("GET /v3/test/count/4?cursor=2", &[("last-event-id", "3")], "")
        .await;
    assert!(
        answer.text.starts_with("id: 3\n"),
        "the parameter is more explicit: {}",
        answer.text
    );
}

#[tokio::test]
async fn a_refusal_before_the_stream_is_an_ordinary_error() {
    let rest = Rest::new(&CAMPAIGNS);
    let answer = rest.plain("GET /v3/test/count/3?cursor=old").await;
    assert_eq!(answer.details(410)["cursor"], "old");
    assert_eq!(rest.plain("GET /v3/test/count/0").await.status, 400);
}

#[tokio::test]
async fn a_failure_within_is_the_last_event() {
    let answer = Rest::new(&CAMPAIGNS).plain("GET /v3/test/count/20?cursor=12").await;
    assert_eq!(
        answer.text,
        "event: error\ndata: {\"error\":{\"code\":\"ERR_UNAVAILABLE\",\"message\":\"The service is not available right \
         now. Please try again.\",\"devMessage\":\"the counter broke\",\"source\":\"campaigns-service\"}}\n\n"
    );
}

#[tokio::test]
async fn both_doors_stream_the_same_events() {
    let request = pb::CountRequest { upto: 4, cursor: None };
    let mut events = grpc!().count(request).await.unwrap().into_inner();
    let mut cursors = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        cursors.push(event.cursor);
    }
    assert_eq!(cursors, ["1", "2", "3", "4"]);
}
