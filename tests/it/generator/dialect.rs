//! A second dialect, of nobody's API, that differs in everything that is data: no handler knows of it.

use campanile::api::rest::dialect::{
    CAMPAIGNS, Credential, CredentialKind, Dialect, EnumCase, Envelope, Paging, PathRule, Source, Tenant,
    TimestampFormat,
};
use campanile::api::rest::{Found, error};
use campanile::model::{Error, Reason};
use serde_json::json;

use crate::support::test_service::Rest;

static OTHER: Dialect = Dialect {
    name: "other",
    paths: PathRule {
        from: "/v3/test",
        to: "/other/{tenant}",
    },
    credentials: &[
        Credential {
            kind: CredentialKind::ApiKey,
            source: Source::Bearer,
        },
        Credential {
            kind: CredentialKind::ApiKey,
            source: Source::Query("token"),
        },
    ],
    tenant: Tenant::Path("tenant"),
    on_behalf_of: "x-user",
    envelope: Envelope {
        single: None,
        list: "results",
        meta: None,
        pagination: Some("paging"),
    },
    paging: Paging {
        names: &[("limit", "pageSize"), ("page", "pageNumber")],
        limit_default: Some(50),
        limit_max: 80,
    },
    timestamps: TimestampFormat::UnixSeconds,
    enums: EnumCase::Upper,
    success_status: |_| 200,
    error_status: |reason| {
        if reason.http_status() == 404 {
            410
        } else {
            reason.http_status()
        }
    },
    error_body,
};

fn error_body(error: &Error, out: &mut Vec<u8>) {
    let details: Vec<_> = error::details(error)
        .into_iter()
        .map(|(field, message)| json!({"field": field, "message": message}))
        .collect();
    let word = match error.reason() {
        Reason::BadRequest => "invalid",
        other => other.word(),
    };
    out.extend_from_slice(json!({"error": word, "details": details}).to_string().as_bytes());
}

#[tokio::test]
async fn single_answers_stand_alone_in_other_formats() {
    let rest = Rest::new(&OTHER);
    let answer = rest.plain("GET /other/acme/items/x").await;
    assert_eq!(answer.status, 200);
    let item = answer.json();
    assert_eq!(item["id"], "x");
    assert_eq!(item["colour"], "LIGHT_BLUE");
    assert_eq!(item["createdAt"], 1_705_311_000);
    let created = rest
        .json("POST /other/acme/items", &json!({"name": "n", "colour": "red"}))
        .await;
    assert_eq!((created.status, &created.json()["colour"]), (200, &json!("RED")));
}

#[tokio::test]
async fn lists_have_other_names_and_defaults() {
    let rest = Rest::new(&OTHER);
    let answer = rest
        .plain("GET /other/acme/items?pageNumber=2&token=secret")
        .await
        .json();
    assert_eq!(
        answer.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["paging", "results"]
    );
    assert_eq!(answer["paging"], json!({"pageNumber": 2, "total": 3}));
    let refused = rest
        .plain("GET /other/acme/items?limit=5&pageSize=500&token=secret")
        .await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.json(),
        json!({"error": "invalid", "details": [
            {"field": "limit", "message": "is not a known field"},
            {"field": "pageSize", "message": "must not be greater than 80, received \"500\""},
        ]})
    );
    let refused = rest.plain("GET /other/acme/items?pageSize=90").await;
    assert_eq!(
        refused.json()["details"][0]["message"],
        "must not be greater than 80, received \"90\""
    );
}

#[tokio::test]
async fn errors_have_another_body_and_status() {
    let answer = Rest::new(&OTHER).plain("GET /other/acme/items/missing").await;
    assert_eq!(answer.status, 410);
    assert_eq!(
        answer.json(),
        json!({"error": "ERR_TEMPLATE_NOT_FOUND", "details": [{"field": "templateId", "message": "missing"}]})
    );
}

#[test]
fn the_path_names_the_tenant() {
    let router = Rest::new(&OTHER).0;
    let Found::Route(found) = router.find(&http::Method::POST, "/other/acme/items/x:touch") else {
        panic!("not found");
    };
    assert_eq!(found.tenant.as_deref(), Some("acme"));
    assert!(matches!(
        router.find(&http::Method::GET, "/v3/test/items"),
        Found::NotFound
    ));
    let own = Rest::new(&CAMPAIGNS).0;
    let Found::Route(found) = own.find(&http::Method::GET, "/v3/test/items/x") else {
        panic!("not found");
    };
    assert_eq!(found.tenant, None);
}
