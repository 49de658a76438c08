//! Schedules, and how fast campaigns go: what is started when, what is found too late, and who comes first.

use std::time::Duration;

use campanile::domain::dispatch;
use campanile::worker::{Turn, schedule};
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{ask, ready, refusal, status, uids, work};
use crate::support::rpc::{Answer, Door};
use crate::support::shop::Shop;
use crate::support::world::{World, steady};
use crate::{everywhere, on_both};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn at(shop: &Shop<'_>, id: &Value, when: &str) -> Answer {
    shop.call("ScheduleCampaign", json!({"campaignId": id, "scheduledAt": when}))
        .await
}

/// Lets the clock strike: whatever is due is started.
async fn strike(world: &World) {
    while schedule::turn(&world.service, world.clock.now()).await == Turn::Again {}
}

everywhere! {
    async fn a_scheduled_campaign_is_sent_when_its_time_comes_and_not_before(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(3)).await;
        let local = json!({"campaignId": id, "scheduledLocal": "2024-01-15T15:00", "timeZone": "Europe/Rome"});
        let scheduled = shop.call("ScheduleCampaign", local).await;
        assert_json_snapshot!("campaign_scheduled", steady(&scheduled.body));
        world.pass(2 * HOUR - Duration::from_millis(1));
        strike(&world).await;
        assert_eq!(status(&shop, &id).await, "scheduled");
        world.pass(Duration::from_millis(1));
        strike(&world).await;
        assert_eq!(status(&shop, &id).await, "sending");
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(3)).await, vec![1; 3]);
        assert_eq!(status(&shop, &id).await, "completed");
    }

    async fn a_schedule_can_be_moved_and_taken_back(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(3)).await;
        at(&shop, &id, "2024-01-15T13:00:00.000Z").await.data();
        let moved = at(&shop, &id, "2024-01-15T14:00:00.000Z").await;
        assert_eq!(moved.data()["scheduledAt"], "2024-01-15T14:00:00.000Z");
        world.pass(HOUR);
        strike(&world).await;
        assert_eq!(status(&shop, &id).await, "scheduled");
        let back = ask(&shop, "UnscheduleCampaign", &id).await;
        assert_eq!((&back.data()["status"], &back.data()["scheduledAt"]), (&json!("draft"), &json!(null)));
        world.pass(2 * HOUR);
        strike(&world).await;
        assert_eq!(status(&shop, &id).await, "draft");
    }

    async fn a_schedule_that_is_repeated_when_its_time_has_passed_is_answered_as_it_was(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(3)).await;
        let caller = shop.caller.once("schedule-1");
        let request = json!({"campaignId": id, "scheduledAt": "2024-01-15T13:00:00.000Z"});
        let first = world.call("ScheduleCampaign", &caller, request.clone()).await;
        assert_eq!(first.data()["status"], "scheduled");
        world.pass(2 * HOUR);
        let again = world.call("ScheduleCampaign", &caller, request.clone()).await;
        assert_eq!((again.replayed, &again.body), (true, &first.body));
        let refused = shop.call("ScheduleCampaign", request).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"), "under no key it is a new one");
    }

    async fn a_time_that_cannot_be_is_refused_and_nothing_is_changed(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(3)).await;
        let before = shop.rows().await;
        for (when, field) in [
            (json!({"scheduledAt": "2024-01-15T11:59:59.999Z"}), "scheduledAt"),
            (json!({"scheduledAt": "2025-01-15T12:00:00.000Z"}), "scheduledAt"),
            (json!({}), "scheduledAt"),
            (json!({"scheduledLocal": "2024-01-16T09:00"}), "scheduledLocal"),
            (json!({"scheduledLocal": "2024-02-30T09:00", "timeZone": "UTC"}), "scheduledLocal"),
            (json!({"scheduledLocal": "2024-01-16T09:00", "timeZone": "Europe/Atlantis"}), "timeZone"),
        ] {
            let mut request = when;
            request["campaignId"] = id.clone();
            let refused = shop.call("ScheduleCampaign", request).await;
            assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"), "{refused:#?}");
            assert!(refusal(&refused).2.get(field).is_some(), "{refused:#?}");
        }
        assert_eq!((status(&shop, &id).await, shop.rows().await), (json!("draft"), before));
    }

    async fn a_campaign_that_was_found_too_late_waits_for_somebody_to_decide(world) {
        let shop = Shop::open(&world).await;
        let (late, too_late) = (ready(&shop, json!({}), &uids(2)).await, ready(&shop, json!({}), &uids(2)).await);
        at(&shop, &too_late, "2024-01-15T13:00:00.000Z").await.data();
        at(&shop, &late, "2024-01-15T13:00:01.000Z").await.data();
        world.pass(2 * HOUR + Duration::from_secs(1));
        strike(&world).await;
        assert_eq!(status(&shop, &late).await, "sending");
        let found = ask(&shop, "GetCampaign", &too_late).await;
        assert_eq!((&found.data()["status"], &found.data()["misfiredAt"]), (&json!("scheduled"), &json!("2024-01-15T14:00:01.000Z")));
        let sent = ask(&shop, "SendCampaign", &too_late).await;
        assert_eq!((&sent.data()["status"], &sent.data()["misfiredAt"]), (&json!("sending"), &json!(null)));
    }

    async fn a_campaign_that_cannot_be_sent_at_its_time_fails_with_the_reason(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        at(&shop, &id, "2024-01-15T13:00:00.000Z").await.data();
        shop.call("ArchiveTemplate", json!({"templateId": "plain"})).await.data();
        world.pass(HOUR);
        strike(&world).await;
        let failed = ask(&shop, "GetCampaign", &id).await;
        assert_eq!((&failed.data()["status"], &failed.data()["failure"]), (&json!("failed"), &json!("ERR_TEMPLATE_NOT_APPROVED")));
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(2)).await, vec![0; 2]);
    }
}

on_both! {
    async fn two_schedulers_start_a_campaign_once(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(5)).await;
        at(&shop, &id, "2024-01-15T13:00:00.000Z").await.data();
        world.pass(HOUR);
        let settings = campanile::domain::Settings {
            clock: world.clock.clone(),
            ..campanile::domain::Settings::new(world.database().settings())
        };
        let other = campanile::domain::Service::open(settings).await.unwrap();
        let now = world.clock.now();
        let fires = (0..8).map(|number| {
            let service = if number % 2 == 0 { &world.service } else { &other };
            campanile::domain::campaign::fire_due(service, now)
        });
        let fired: u64 = futures::future::join_all(fires).await.into_iter().map(Result::unwrap).sum();
        assert_eq!(fired, 1);
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(5)).await, vec![1; 5]);
    }

    async fn a_send_from_the_api_overtakes_a_campaign(db) {
        let world = World::start_with(db, Door::Rest, |settings| settings.dispatching.page_rows = Some(10)).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(100)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        let urgent: Vec<_> = (0..20).map(|number| format!("urgent-{number}")).collect();
        let sent = shop.call("SendNotification", json!({"templateId": "plain", "receivers": urgent})).await;
        let batch = sent.data()["batchId"].as_str().unwrap().to_owned();
        for _ in 0..2 {
            let page = dispatch::claim(&world.service).await.unwrap().unwrap();
            assert_eq!(page.key.notification.to_string(), batch);
        }
        let page = dispatch::claim(&world.service).await.unwrap().unwrap();
        assert_ne!(page.key.notification.to_string(), batch);
    }

    async fn apps_take_turns_whatever_their_campaigns_hold(db) {
        let world = World::start_with(db, Door::Rest, |settings| settings.dispatching.page_rows = Some(10)).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(50)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        let club = world.tenant("club").await;
        let call = async |rpc: &str, request: Value| world.call(rpc, &club.caller, request).await.data().clone();
        call("CreateChannel", json!({"channel": {"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true}})).await;
        let template = json!({"template": {"templateId": "plain", "name": "Plain", "status": "approved", "channels": [{"channelType": "in_app"}]}});
        call("CreateTemplate", template).await;
        let other = call("CreateCampaign", json!({"campaign": {"name": "Other", "templateId": "plain"}})).await["id"].clone();
        call("AddCampaignRecipients", json!({"campaignId": other, "userIds": uids(50)})).await;
        call("SendCampaign", json!({"campaignId": other})).await;
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.push(dispatch::claim(&world.service).await.unwrap().unwrap().app);
        }
        assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    }

    async fn a_campaign_keeps_to_its_own_rate(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        // Pages of ten, one in a second: the first is due at once.
        let id = ready(&shop, json!({"ratePerSecond": 10}), &uids(30)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        assert!(dispatch::claim(&world.service).await.unwrap().is_some());
        assert!(dispatch::claim(&world.service).await.unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(1_050)).await;
        assert!(dispatch::claim(&world.service).await.unwrap().is_some());
        assert!(dispatch::claim(&world.service).await.unwrap().is_none());
    }
}
