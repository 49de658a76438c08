//! Campaigns: how one is prepared, sent, held and ended, and what becomes of its recipients. What a page does for a
//! recipient is in `batch.rs`.

pub(crate) mod import;
mod kept;
mod life;
mod look;
mod people;
mod preflight;
mod refused;
mod time;

use campanile::worker::{Turn, complete};
use serde_json::{Value, json};

use crate::support::rpc::Answer;
use crate::support::shop::Shop;
use crate::support::world::World;

/// So many uids.
fn uids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number:05}")).collect()
}

/// Makes a campaign with what differs from a plain one, and gives its id.
async fn draft(shop: &Shop<'_>, differs: Value) -> Value {
    let mut campaign = json!({"name": "Spring sale", "templateId": "plain"});
    campaign
        .as_object_mut()
        .unwrap()
        .extend(differs.as_object().unwrap().clone());
    let made = shop.call("CreateCampaign", json!({"campaign": campaign})).await;
    assert_eq!(made.data()["status"], "draft", "{made:#?}");
    made.data()["id"].clone()
}

/// The same with recipients.
async fn ready(shop: &Shop<'_>, differs: Value, recipients: &[String]) -> Value {
    let id = draft(shop, differs).await;
    add(shop, &id, recipients).await.data();
    id
}

async fn add(shop: &Shop<'_>, id: &Value, recipients: &[String]) -> Answer {
    shop.call(
        "AddCampaignRecipients",
        json!({"campaignId": id, "userIds": recipients}),
    )
    .await
}

/// Calls an rpc that needs nothing but the campaign.
async fn ask(shop: &Shop<'_>, rpc: &str, id: &Value) -> Answer {
    shop.call(rpc, json!({"campaignId": id})).await
}

async fn status(shop: &Shop<'_>, id: &Value) -> Value {
    ask(shop, "GetCampaign", id).await.data()["status"].clone()
}

/// Pending, processing, completed, failed and cancelled recipients.
async fn summary(shop: &Shop<'_>, id: &Value) -> Value {
    let answer = ask(shop, "GetCampaignRecipientSummary", id).await;
    let data = answer.data();
    json!([
        data["pending"],
        data["processing"],
        data["completed"],
        data["failed"],
        data["cancelled"]
    ])
}

/// The uids of the recipients with a status.
async fn with_status(shop: &Shop<'_>, id: &Value, status: &str) -> Vec<String> {
    let request = json!({"campaignId": id, "status": status, "limit": 100});
    let listed = shop.call("ListCampaignRecipients", request).await;
    let recipients = listed.data().as_array().unwrap();
    assert!(recipients.iter().all(|one| one["status"] == status), "{listed:#?}");
    recipients
        .iter()
        .map(|one| one["uid"].as_str().unwrap().to_owned())
        .collect()
}

/// Lets all that waits be done and ended.
async fn work(world: &World) {
    world.work().await;
    while complete::turn(&world.service, world.clock.now()).await == Turn::Again {}
}

/// Status and code of a refusal, with what its details say.
fn refusal(answer: &Answer) -> (u16, &str, &Value) {
    (answer.status, answer.code(), &answer.body["error"]["details"])
}
