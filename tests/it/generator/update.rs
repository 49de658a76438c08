//! Updates by mask and etag, over both doors.

use campanile::api::rest::dialect::CAMPAIGNS;
use prost_types::FieldMask;
use serde_json::{Value, json};
use tonic_types::StatusExt;

use crate::support::test_service::{Rest, grpc, pb};

const UPDATE: &str = "PUT /v3/test/items/i1";

async fn mask_of(body: &Value) -> Value {
    Rest::new(&CAMPAIGNS).json(UPDATE, body).await.data()["key"].clone()
}

async fn over_grpc(item: pb::Item, mask: Option<&[&str]>) -> Result<Vec<String>, Vec<String>> {
    let request = pb::UpdateItemRequest {
        item_id: "i1".to_owned(),
        item: Some(item),
        update_mask: mask.map(|paths| FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        etag: None,
    };
    match grpc!().update_item(request).await {
        Ok(response) => Ok(response.into_inner().applied_mask.unwrap().paths),
        Err(status) => {
            let details = status.get_error_details();
            let violations = &details.bad_request().unwrap().field_violations;
            Err(violations
                .iter()
                .map(|v| format!("{}: {}", v.field, v.description))
                .collect())
        }
    }
}

#[tokio::test]
async fn the_mask_is_what_the_body_named() {
    assert_eq!(mask_of(&json!({"name": "n"})).await, "name");
    assert_eq!(
        mask_of(&json!({"note": null, "tags": [], "createdAt": 5, "id": "x"})).await,
        "note,tags"
    );
    assert_eq!(
        mask_of(&json!({"part": {"name": "n", "parts": []}, "metadata": {}})).await,
        "metadata,part"
    );
    assert_eq!(mask_of(&json!({})).await, "");
}

#[tokio::test]
async fn only_masked_fields_are_checked_and_required_ones_cannot_be_cleared() {
    let rest = Rest::new(&CAMPAIGNS);
    let details = rest
        .json(UPDATE, &json!({"name": null, "note": "", "part": {}}))
        .await
        .details(400);
    assert_eq!(
        details,
        json!({"name": "is required", "note": "must not be empty, received \"\"", "part.name": "is required"})
    );
    let details = rest.json(UPDATE, &json!({"name": 5})).await.details(400);
    assert_eq!(details, json!({"name": "must be a string, received \"5\""}));
    assert_eq!(rest.plain(UPDATE).await.details(400), json!({"body": "is required"}));
    assert_eq!(rest.send(UPDATE, &[], "null").await.status, 400);
}

#[tokio::test]
async fn neither_mask_nor_etag_is_a_parameter() {
    let rest = Rest::new(&CAMPAIGNS);
    let line = "PUT /v3/test/items/i1?updateMask=name&etag=e&update_mask=x";
    let details = rest.json(line, &json!({"name": "n"})).await.details(400);
    assert_eq!(details.as_object().unwrap().len(), 3, "{details}");
    for (sent, read) in [("\"e1\"", "e1"), ("W/\"e1\"", "e1"), ("e1", "e1"), ("*", "")] {
        let answer = rest
            .send(UPDATE, &[("if-match", sent)], "{\"name\":\"n\"}")
            .await
            .data();
        assert_eq!(answer["etag"], read, "{sent}");
    }
    for several in ["\"e1\", \"e2\"", "e1,e2"] {
        let details = rest
            .send(UPDATE, &[("if-match", several)], "{\"name\":\"n\"}")
            .await
            .details(400);
        let expected = format!("must be one etag in double quotes, or *, received {several:?}");
        assert_eq!(details, json!({ "If-Match": expected }));
    }
    let long = "x".repeat(101);
    let details = rest
        .send(UPDATE, &[("if-match", &long)], "{\"name\":\"n\"}")
        .await
        .details(400);
    assert!(
        details["etag"]
            .as_str()
            .unwrap()
            .starts_with("must not be longer than 100 characters")
    );
}

#[tokio::test]
async fn over_grpc_an_absent_mask_is_what_was_sent() {
    let item = pb::Item {
        id: "ignored".to_owned(),
        name: "n".to_owned(),
        note: Some("x".to_owned()),
        ..pb::Item::default()
    };
    assert_eq!(over_grpc(item.clone(), None).await.unwrap(), ["name", "note"]);
    assert_eq!(over_grpc(item.clone(), Some(&[])).await.unwrap(), ["name", "note"]);
    assert_eq!(
        over_grpc(item.clone(), Some(&["note", "id", "note"])).await.unwrap(),
        ["note"]
    );
    let all = over_grpc(item, Some(&["*"])).await.unwrap();
    assert_eq!(all, ["slug", "name", "note", "tags", "colour", "part", "metadata"]);
}

#[tokio::test]
async fn over_grpc_unknown_paths_and_cleared_required_ones_are_refused() {
    let refused = over_grpc(pb::Item::default(), Some(&["name", "createdAt", "part.name"]))
        .await
        .unwrap_err();
    let rule = "must name top-level fields of the resource, such as name";
    assert_eq!(
        refused,
        [
            format!("updateMask: {rule}, received \"createdAt\""),
            "item.name: is required".to_owned()
        ]
    );
}
