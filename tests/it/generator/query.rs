//! Query strings and path variables.

use campanile::api::rest::dialect::CAMPAIGNS;
use serde_json::{Value, json};

use crate::support::test_service::Rest;

async fn asked(query: &str) -> Value {
    let answer = Rest::new(&CAMPAIGNS)
        .plain(&format!("GET /v3/test/query/7?{query}"))
        .await;
    answer.data()["request"].clone()
}

async fn refused(target: &str) -> Value {
    Rest::new(&CAMPAIGNS).plain(&format!("GET {target}")).await.details(400)
}

#[tokio::test]
async fn every_form_of_parameter_is_read() {
    let answer = asked(
        "text=a+b%20c&flag=true&colour=COLOUR_RED&colours=red,lightBlue&colours=dark_green&words=x&words=y\
         &at=1705311000.5&filter.word=w&filter.numbers=1,2&filter.range.from=2024-01-15T09:30:00Z\
         &filter.range.to=1705311000&big=-9007199254740993&ratio=0.5&blob=AQI",
    )
    .await;
    assert_eq!(
        answer,
        json!({
            "id": 7, "text": "a b c", "flag": true, "colour": "red", "colours": ["red", "lightBlue", "dark_green"],
            "words": ["x", "y"], "at": "2024-01-15T09:30:00.500Z",
            "filter": {"word": "w", "numbers": [1, 2], "range": {"from": "2024-01-15T09:30:00.000Z", "to": "2024-01-15T09:30:00.000Z"}},
            "big": -9_007_199_254_740_993_i64, "ratio": 0.5, "blob": "AQI=",
        })
    );
}

#[tokio::test]
async fn path_and_query_problems_come_out_together() {
    let details = refused(
        "/v3/test/query/0?text=123456789&flag=1&colour=green&colours=red,x&at=yesterday&filter.numbers=-1&filter.wrd=a\
         &filter=x&big=1.5&ratio=nan&blob=*&id=3&unknown=1&flag=true&text.x=1&txt=1&filter.range.from.x=1",
    )
    .await;
    insta::assert_json_snapshot!("query_problems", details);
}

#[tokio::test]
async fn body_path_and_query_problems_come_out_together() {
    let rest = Rest::new(&CAMPAIGNS);
    let details = rest
        .json(
            "POST /v3/test/shelves/UP/items?shelf=1",
            &json!({"name": 5, "item": {}}),
        )
        .await
        .details(400);
    assert_eq!(
        details,
        json!({
            "name": "must be a string, received \"5\"",
            "item": "is not a known field",
            "shelf": "is not a known field",
            "shelfId": "must match ^[a-z0-9]{1,8}$, received \"UP\"",
        })
    );
}

#[tokio::test]
async fn a_field_is_a_parameter_exactly_where_no_path_or_body_holds_it() {
    let rest = Rest::new(&CAMPAIGNS);
    let body = json!({"name": "n"});
    let answer = rest.json("POST /v3/test/items?shelfId=one", &body).await;
    assert_eq!((answer.status, &answer.data()["id"]), (201, &json!("one")));
    let answer = rest.json("POST /v3/test/shelves/two/items", &body).await;
    assert_eq!(answer.data()["id"], "two");
    let details = rest
        .json("POST /v3/test/shelves/two/items?shelfId=one", &body)
        .await
        .details(400);
    assert_eq!(details["shelfId"], "is no query parameter here");
    let details = rest.json("POST /v3/test/items?item.name=x", &body).await.details(400);
    assert_eq!(details["item.name"], "is no query parameter here");
}

#[tokio::test]
async fn escapes_in_paths_are_decoded() {
    let rest = Rest::new(&CAMPAIGNS);
    let answer = rest.plain("GET /v3/test/items/a%2Fb%20%C3%A4").await;
    assert_eq!(answer.data()["id"], "a/b ä");
    assert_eq!(
        rest.plain("GET /v3/test/items/%00").await.details(400),
        json!({"id": "must not contain U+0000, received \"\\0\""})
    );
}

#[tokio::test]
async fn escapes_that_are_none_are_refused_where_they_stand() {
    const RULE: &str = "must be UTF-8 with every % followed by two hexadecimal digits";
    let rest = Rest::new(&CAMPAIGNS);
    for path in ["/v3/test/items/%FF", "/v3/test/items/a%zz", "/v3/test/items/a%2"] {
        let details = rest.plain(&format!("GET {path}")).await.details(400);
        assert_eq!(details, json!({"path": format!("{RULE}, received {path:?}")}));
    }
    for text in ["%zz", "100%", "a%4", "%FF", "%+1"] {
        let details = refused(&format!("/v3/test/query/7?name={text}")).await;
        assert_eq!(details["name"], format!("{RULE}, received {text:?}"));
    }
    let details = refused("/v3/test/query/7?na%zzme=1").await;
    assert_eq!(details["query"], format!("{RULE}, received \"na%zzme=1\""));
    let answer = rest.plain("GET /v3/test/query/7?words=100%25&words=a+b").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn parameters_have_a_limit() {
    let many = "words=a&".repeat(300);
    let details = refused(&format!("/v3/test/query/7?{many}")).await;
    assert_eq!(details["query"], "must not have more than 200 parameters");
    assert!(
        details["words"]
            .as_str()
            .unwrap()
            .starts_with("must not have more than 3 items")
    );
}
