//! Recipients: who is added, who is served and who is not, and that it is told why.

use campanile::domain::campaign::CampaignLimits;
use campanile::model::Timestamp;
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{add, ask, draft, ready, refusal, status, summary, uids, with_status, work};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::{World, steady};
use crate::{everywhere, on_both};

async fn explained(shop: &Shop<'_>, id: &Value, uid: &str) -> Value {
    let request = json!({"campaignId": id, "uid": uid});
    let answer = shop.call("GetCampaignRecipient", request).await;
    answer.data().clone()
}

/// The last check, its result and its reason.
fn last(explained: &Value) -> (&str, &str, &str) {
    let check = explained["checks"].as_array().unwrap().last().unwrap();
    let text = |field: &str| check[field].as_str().unwrap_or_default();
    (text("name"), text("result"), text("reason"))
}

everywhere! {
    async fn users_are_added_once_however_often_they_are_named(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let named = ["Ada", "bob", "ADA"].map(str::to_owned);
        let first = add(&shop, &id, &named).await;
        assert_eq!(first.data(), &json!({"added": 2, "duplicateCount": 1, "unknownCount": 0, "total": 2}));
        let more = ["bob", "cyd"].map(str::to_owned);
        let second = add(&shop, &id, &more).await;
        assert_eq!(second.data(), &json!({"added": 1, "duplicateCount": 1, "unknownCount": 0, "total": 3}));
        let listed = ask(&shop, "ListCampaignRecipients", &id).await;
        let found: Vec<_> = listed.data().as_array().unwrap().iter().map(|one| (&one["uid"], &one["position"])).collect();
        let (ada, bob, cyd) = (json!("ada"), json!("bob"), json!("cyd"));
        assert_eq!(found, [(&ada, &json!(1)), (&bob, &json!(2)), (&cyd, &json!(3))]);
    }

    async fn whoever_cannot_be_added_changes_nothing(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
        for (request, field) in [
            (json!({"userIds": []}), "userIds"),
            (json!({"userIds": ["a b"]}), "userIds[0]"),
            (json!({"userIds": ["ada"], "userVariables": {"eve": {}}}), "userVariables.eve"),
            (json!({"userIds": uids(10_001)}), "userIds"),
        ] {
            let mut request = request;
            request["campaignId"] = id.clone();
            let refused = shop.call("AddCampaignRecipients", request).await;
            assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"), "{refused:#?}");
            assert!(refusal(&refused).2.to_string().contains(field), "{refused:#?}");
        }
        assert_eq!((ask(&shop, "GetCampaign", &id).await.body, shop.rows().await), before);
    }

    async fn a_recipient_whose_variables_are_at_fault_fails_alone_and_is_told_why(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({"templateId": "order-shipped"})).await;
        let image = json!({"url": "https://a.example/b.png", "width": 1, "height": 1});
        let people = json!({
            "campaignId": id,
            "userIds": ["ada", "bob", "cyd"],
            "userVariables": {"ada": {"code": "1"}, "cyd": {"code": image}},
        });
        shop.call("AddCampaignRecipients", people).await.data();
        assert_eq!(last(&explained(&shop, &id, "bob").await), ("variables_valid", "failed", "invalid_variables"));
        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        assert_eq!(status(&shop, &id).await, "partially_failed");
        assert_eq!(summary(&shop, &id).await, json!([0, 0, 1, 2, 0]));
        assert_eq!(with_status(&shop, &id, "failed").await, ["bob", "cyd"]);
        assert_eq!(with_status(&shop, &id, "completed").await, ["ada"]);
        assert_json_snapshot!("recipient_failed", steady(&explained(&shop, &id, "bob").await));
        let served = explained(&shop, &id, "ada").await;
        let instant = |field: &str| served["deliveries"][0][field].as_str().unwrap().parse::<Timestamp>().unwrap();
        assert!(instant("createdAt") <= instant("updatedAt"), "{served:#}");
        assert_json_snapshot!("recipient_completed", steady(&served));
        assert_eq!(shop.all_unread(&["ada", "bob", "cyd"].map(str::to_owned)).await, [1, 0, 0]);
    }

    async fn whoever_is_deactivated_or_gone_when_their_turn_comes_is_not_served(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(4)).await;
        shop.call("DeactivateUser", json!({"uid": "user-00001"})).await.data();
        shop.call("DeleteUser", json!({"uid": "user-00002"})).await.data();
        assert_eq!(last(&explained(&shop, &id, "user-00001").await), ("user_active", "failed", "user_deactivated"));
        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        assert_eq!(summary(&shop, &id).await, json!([0, 0, 2, 2, 0]));
        assert_eq!(last(&explained(&shop, &id, "user-00001").await), ("user_active", "failed", "user_deactivated"));
        assert_eq!(last(&explained(&shop, &id, "user-00002").await), ("user_known", "failed", "unknown_user"));
        assert_eq!(last(&explained(&shop, &id, "user-00000").await), ("delivered", "passed", ""));
        let nobody = shop.call("GetCampaignRecipient", json!({"campaignId": id, "uid": "nobody"})).await;
        assert_eq!((nobody.status, nobody.code()), (404, "ERR_RECIPIENT_NOT_FOUND"));
    }

    async fn whoever_is_active_again_when_their_turn_comes_is_served(world) {
        let shop = Shop::open(&world).await;
        shop.call("CreateUser", json!({"user": {"uid": "ada", "name": "Ada"}})).await.data();
        shop.call("DeactivateUser", json!({"uid": "ada"})).await.data();
        let id = ready(&shop, json!({}), &["ada".to_owned()]).await;
        shop.call("ReactivateUser", json!({"uid": "ada"})).await.data();
        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        assert_eq!(shop.unread("ada").await, 1);
        assert_eq!(status(&shop, &id).await, "completed");
    }

    async fn a_preflight_tells_what_a_send_then_does(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({"templateId": "order-shipped", "ratePerSecond": 2})).await;
        let people = json!({
            "campaignId": id,
            "userIds": ["ada", "bob", "cyd", "dan"],
            "userVariables": {"ada": {"code": "1"}, "cyd": {"code": "3"}, "dan": {"code": "4"}},
        });
        shop.call("AddCampaignRecipients", people).await.data();
        shop.call("DeactivateUser", json!({"uid": "dan"})).await.data();
        let before = shop.rows().await;
        let found = ask(&shop, "PreflightCampaign", &id).await;
        let mut shown = found.body.clone();
        let token = shown["data"]["planToken"].take();
        assert_json_snapshot!("preflight", steady(&shown));
        assert_eq!(shop.rows().await, before, "a preflight writes nothing");

        add(&shop, &id, &["eve".to_owned()]).await.data();
        let stale = shop.call("SendCampaign", json!({"campaignId": id, "planToken": token})).await;
        assert_eq!((stale.status, stale.code()), (412, "ERR_PRECONDITION_FAILED"), "{stale:#?}");
        assert_eq!(status(&shop, &id).await, "draft");
        let again = ask(&shop, "PreflightCampaign", &id).await;
        let token = &again.data()["planToken"];
        shop.call("SendCampaign", json!({"campaignId": id, "planToken": token})).await.data();
        world.work().await;
        work(&world).await;
        assert_eq!(summary(&shop, &id).await, json!([0, 0, 2, 3, 0]));
        assert_eq!(again.data()["reachable"], 2);
    }

    async fn a_channel_that_is_off_leaves_a_campaign_nothing_to_send(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        shop.call("UpdateChannel", json!({"channelId": "bell", "channel": {"enabled": false}})).await.data();
        let found = ask(&shop, "PreflightCampaign", &id).await;
        assert_eq!((&found.data()["reachable"], &found.data()["exclusions"]), (&json!(0), &json!([{"reason": "no_channel", "count": 2}])));
        assert_eq!(last(&explained(&shop, &id, "user-00000").await), ("channel_open", "failed", "channel_disabled"));
        let refused = ask(&shop, "SendCampaign", &id).await;
        assert_eq!(refusal(&refused).1, "ERR_INVALID_STATE");
        assert_eq!(status(&shop, &id).await, "draft");
    }
}

on_both! {
    async fn a_campaign_takes_no_more_recipients_than_it_may_have(db) {
        let world = World::start_with(db, Door::Rest, |settings| {
            settings.campaigns = CampaignLimits { recipients_max: 5, ..CampaignLimits::default() };
        }).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(4)).await;
        let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
        let more = ["ada", "bob"].map(str::to_owned);
        let refused = add(&shop, &id, &more).await;
        assert_eq!(refusal(&refused), (400, "ERR_TARGET_LIMIT_EXCEEDED", &json!({"limit": "5", "received": "6"})));
        assert_eq!((ask(&shop, "GetCampaign", &id).await.body, shop.rows().await), before);
        add(&shop, &id, &["ada".to_owned()]).await.data();
    }

    async fn without_their_creation_unknown_users_fail_and_are_counted(db) {
        let world = World::start_with(db, Door::Grpc, |settings| settings.auto_create_users = false).await;
        let shop = Shop::open(&world).await;
        shop.call("CreateUser", json!({"user": {"uid": "ada", "name": "Ada"}})).await.data();
        let id = draft(&shop, json!({})).await;
        let added = add(&shop, &id, &["ada", "eve"].map(str::to_owned)).await;
        assert_eq!(added.data(), &json!({"added": 2, "duplicateCount": 0, "unknownCount": 1, "total": 2}));
        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        assert_eq!(summary(&shop, &id).await, json!([0, 0, 1, 1, 0]));
        assert_eq!(last(&explained(&shop, &id, "eve").await), ("user_known", "failed", "unknown_user"));
    }
}
