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

mod requests {
    use tonic::{Code, Status};
    use tonic_types::StatusExt;

    use crate::support::test_service::pb::add_request::Part;
    use crate::support::test_service::{grpc, pb};

    fn part(part: Part) -> pb::AddRequest {
        pb::AddRequest {
            part: Some(part),
            filling: Vec::new(),
        }
    }

    fn tick(number: i64) -> pb::AddRequest {
        part(Part::Tick(pb::Tick { number }))
    }

    async fn add(parts: Vec<pb::AddRequest>) -> Result<pb::AddResponse, Status> {
        let answer = grpc!().add(futures::stream::iter(parts)).await;
        answer.map(tonic::Response::into_inner)
    }

    #[tokio::test]
    async fn every_message_comes_to_the_handler_in_its_order() {
        let name = |text: &str| part(Part::Name(text.to_owned()));
        let sum = add(vec![name("first"), tick(1), tick(2), name("last"), tick(40)])
            .await
            .unwrap();
        assert_eq!((sum.name.as_str(), sum.sum), ("last", 43));
        assert_eq!(add(Vec::new()).await.unwrap(), pb::AddResponse::default());
    }

    #[tokio::test]
    async fn a_message_out_of_bounds_ends_the_stream_with_all_that_is_wrong_with_it() {
        let mut wrong = part(Part::Name("x".repeat(17)));
        wrong.filling = vec![0; 100];
        for (wrong, field) in [
            (wrong, "name"),
            (tick(-1), "tick.number"),
            (pb::AddRequest::default(), ""),
        ] {
            let refused = add(vec![tick(1), wrong, tick(2)]).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
            let violations = refused
                .get_error_details()
                .bad_request()
                .unwrap()
                .field_violations
                .clone();
            let fields: Vec<_> = violations.iter().map(|one| one.field.as_str()).collect();
            assert_eq!(fields.len(), 1, "{refused:?}");
            assert!(field.is_empty() || fields == [field], "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_larger_than_the_contract_lets_it_be_is_refused() {
        let mut large = tick(1);
        large.filling = vec![0; 1_000];
        let refused = add(vec![tick(1), large]).await.unwrap_err();
        let info = refused.get_error_details().error_info().cloned().unwrap();
        assert_eq!(info.reason, "ERR_PAYLOAD_TOO_LARGE", "{refused:?}");
    }

    #[tokio::test]
    async fn a_handler_that_refuses_does_not_read_on() {
        let unread = futures::stream::iter([tick(13)]).chain_pending();
        let refused = grpc!().add(unread).await.unwrap_err();
        let info = refused.get_error_details().error_info().cloned().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.metadata["sum"].as_str()),
            ("ERR_CONFLICT", "0")
        );
    }

    /// A stream that never ends behind what it holds.
    trait Endless: futures::Stream + Sized {
        fn chain_pending(self) -> futures::stream::Chain<Self, futures::stream::Pending<Self::Item>> {
            futures::StreamExt::chain(self, futures::stream::pending())
        }
    }

    impl<S: futures::Stream> Endless for S {}
}
