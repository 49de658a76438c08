//! Sequences of campaigns: they are held, ended, counted and explained like everything else of them.

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{MINUTE, item, prepare, provided, read, settle, taken, uids};
use crate::everywhere;
use crate::support::shop::Shop;
use crate::support::world::steady;

/// A campaign that goes through the steps of a template, on its way.
async fn sent(shop: &Shop<'_>, template: &str, recipients: &[String]) -> Value {
    let campaign = json!({"name": "Spring", "templateId": template, "variables": {"name": "you"}});
    let made = shop.call("CreateCampaign", json!({"campaign": campaign})).await;
    let id = made.data()["id"].clone();
    let people = json!({"campaignId": id, "userIds": recipients});
    shop.call("AddCampaignRecipients", people).await.data();
    ask(shop, "SendCampaign", &id).await;
    id
}

async fn ask(shop: &Shop<'_>, rpc: &str, id: &Value) -> Value {
    shop.call(rpc, json!({"campaignId": id})).await.data().clone()
}

/// The status, and pending, processing, completed, failed and cancelled recipients.
async fn state(shop: &Shop<'_>, id: &Value) -> Value {
    let campaign = ask(shop, "GetCampaign", id).await;
    let summary = ask(shop, "GetCampaignRecipientSummary", id).await;
    let parts = ["pending", "processing", "completed", "failed", "cancelled"].map(|part| summary[part].clone());
    json!([campaign["status"], parts])
}

async fn explained(shop: &Shop<'_>, id: &Value, uid: &str) -> Value {
    let request = json!({"campaignId": id, "uid": uid});
    shop.call("GetCampaignRecipient", request).await.data().clone()
}

async fn with_status(shop: &Shop<'_>, id: &Value, status: &str) -> Vec<String> {
    let request = json!({"campaignId": id, "status": status, "limit": 100});
    let listed = shop.call("ListCampaignRecipients", request).await;
    let rows = listed.data().as_array().unwrap();
    assert!(rows.iter().all(|one| one["status"] == status), "{listed:#?}");
    rows.iter().map(|one| one["uid"].as_str().unwrap().to_owned()).collect()
}

everywhere! {
    async fn a_campaign_ends_with_its_last_step_and_counts_each(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let draft = json!({"name": "Later", "templateId": "two-steps"});
        let draft = shop.call("CreateCampaign", json!({"campaign": draft})).await.data()["id"].clone();
        let id = sent(&shop, "two-steps", &uids(25)).await;
        settle(&world).await;
        assert_eq!(state(&shop, &id).await, json!(["sending", [0, 0, 25, 0, 0]]));
        for uid in ["user-00001", "user-00002"] {
            read(&shop, uid).await;
        }
        let item = item(&shop, "user-00003").await;
        let clicked = json!({"feedItemId": item, "topic": "clicked"});
        shop.as_user("user-00003", "ReportFeedItemEngagement", clicked).await.data();
        let waiting = ask(&shop, "GetCampaignSequenceMetrics", &id).await;
        assert_eq!((&waiting[1]["waiting"], &waiting[1]["requested"]), (&json!(25), &json!(0)));
        assert_json_snapshot!("sequence_recipient_waiting", steady(&explained(&shop, &id, "user-00001").await));
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(stub.taken().len(), 23);
        assert_eq!(state(&shop, &id).await, json!(["completed", [0, 0, 25, 0, 0]]));
        let done = ask(&shop, "GetCampaign", &id).await;
        assert_eq!(done["completedAt"], "2024-01-15T12:05:00.000Z");
        assert_json_snapshot!("sequence_metrics", ask(&shop, "GetCampaignSequenceMetrics", &id).await);
        assert_json_snapshot!("sequence_recipient_stopped", steady(&explained(&shop, &id, "user-00001").await));
        assert_json_snapshot!("sequence_recipient_reached", steady(&explained(&shop, &id, "user-00004").await));

        let planned = ask(&shop, "GetCampaignSequenceMetrics", &draft).await;
        let steps: Vec<_> = planned.as_array().unwrap().iter().map(|step| (&step["channelType"], &step["requested"])).collect();
        assert_eq!(steps, [(&json!("in_app"), &json!(0)), (&json!("push"), &json!(0))]);
        let plain = sent(&shop, "plain", &uids(2)).await;
        assert_eq!(ask(&shop, "GetCampaignSequenceMetrics", &plain).await, json!([]));
    }

    async fn a_pause_holds_a_step_beyond_its_time_and_moves_no_deadline(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(12)).await;
        settle(&world).await;
        ask(&shop, "PauseCampaign", &id).await;
        world.pass(4 * MINUTE);
        read(&shop, "user-00001").await;
        world.pass(2 * MINUTE);
        read(&shop, "user-00002").await;
        settle(&world).await;
        assert_eq!(stub.taken().len(), 0);
        assert_eq!(state(&shop, &id).await, json!(["paused", [0, 0, 12, 0, 0]]));
        ask(&shop, "ResumeCampaign", &id).await;
        settle(&world).await;
        let expected: Vec<_> = uids(12).into_iter().filter(|uid| uid != "user-00001").collect();
        assert_eq!(taken(&stub), expected);
        assert_eq!(state(&shop, &id).await, json!(["completed", [0, 0, 12, 0, 0]]));
    }

    async fn what_is_queued_when_a_campaign_is_paused_leaves_when_it_is_resumed(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        world.pass(5 * MINUTE);
        assert_eq!(campanile::worker::sequence::turn(&world.service, world.clock.now()).await, campanile::worker::Turn::Again);
        world.work().await;
        ask(&shop, "PauseCampaign", &id).await;
        settle(&world).await;
        assert_eq!((stub.taken().len(), state(&shop, &id).await), (0, json!(["paused", [0, 0, 3, 0, 0]])));
        ask(&shop, "ResumeCampaign", &id).await;
        settle(&world).await;
        assert_eq!((stub.taken().len(), state(&shop, &id).await), (3, json!(["completed", [0, 0, 3, 0, 0]])));
    }

    async fn a_campaign_that_is_cancelled_has_no_further_step(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let bell = json!({"channelId": "bell", "channel": {"enabled": false}});
        let reached = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        shop.call("UpdateChannel", bell).await.data();
        let unreached = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        assert_eq!(state(&shop, &unreached).await, json!(["sending", [0, 3, 0, 0, 0]]));
        assert_eq!(with_status(&shop, &unreached, "processing").await, uids(3));
        let queued = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        ask(&shop, "CancelCampaign", &reached).await;
        ask(&shop, "CancelCampaign", &unreached).await;
        world.pass(5 * MINUTE);
        // Of the third one the messages are queued when it is cancelled.
        campanile::worker::sequence::turn(&world.service, world.clock.now()).await;
        world.work().await;
        ask(&shop, "CancelCampaign", &queued).await;
        settle(&world).await;
        world.pass(60 * MINUTE);
        settle(&world).await;
        assert_eq!(stub.taken().len(), 0);
        assert_eq!(state(&shop, &reached).await, json!(["cancelled", [0, 0, 3, 0, 0]]));
        assert_eq!(state(&shop, &unreached).await, json!(["cancelled", [0, 0, 0, 0, 3]]));
        assert_eq!(with_status(&shop, &unreached, "cancelled").await, uids(3));
        assert_eq!(state(&shop, &queued).await, json!(["cancelled", [0, 0, 0, 0, 3]]));
        assert_eq!(with_status(&shop, &queued, "cancelled").await, uids(3));
        let told = explained(&shop, &queued, "user-00000").await;
        assert_eq!((&told["deliveries"][0]["status"], &told["deliveries"][0]["reason"]), (&json!("suppressed"), &json!("cancelled")));
        let rows = shop.rows().await;
        assert_eq!((rows["sequence_waits"], rows["lanes"]), (0, 0));
    }

    async fn a_sequence_begins_where_a_restart_left_it(world) {
        let (world, _) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(12)).await;
        settle(&world).await;
        read(&shop, "user-00007").await;
        let caller = shop.caller.clone();
        drop(shop);
        let (world, stub) = provided(world).await;
        world.pass(5 * MINUTE);
        settle(&world).await;
        let expected: Vec<_> = uids(12).into_iter().filter(|uid| uid != "user-00007").collect();
        assert_eq!(taken(&stub), expected);
        let done = world.call("GetCampaign", &caller, json!({"campaignId": id})).await;
        assert_eq!(done.data()["status"], "completed");
    }
}
