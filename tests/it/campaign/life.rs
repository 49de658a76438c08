//! From a draft to the end: every status, who may leave it and how, and what is refused.

use futures::future::{join, join_all};
use insta::assert_json_snapshot;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};

use super::{add, ask, draft, ready, refusal, status, summary, uids, with_status, work};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::{World, steady};
use crate::{everywhere, on_both};

everywhere! {
    async fn a_campaign_goes_from_a_draft_to_everybodys_feed(world) {
        let shop = Shop::open(&world).await;
        let campaign = json!({
            "name": "Spring sale",
            "templateId": "order-shipped",
            "variables": {"code": "S-1"},
            "config": {"team": "growth"},
            "tag": "spring",
        });
        let made = shop.call("CreateCampaign", json!({"campaign": campaign})).await;
        assert_eq!(made.status, 201);
        assert_json_snapshot!("campaign_created", steady(&made.body));
        let id = made.data()["id"].clone();
        let people = json!({"campaignId": id, "userIds": uids(30), "userVariables": {"user-00003": {"name": "Ada"}}});
        let added = shop.call("AddCampaignRecipients", people).await;
        assert_eq!(added.status, 201);
        assert_eq!(added.data(), &json!({"added": 30, "duplicateCount": 0, "unknownCount": 0, "total": 30}));
        assert_eq!(summary(&shop, &id).await, json!([30, 0, 0, 0, 0]));

        let sent = ask(&shop, "SendCampaign", &id).await;
        assert_eq!((sent.status, &sent.data()["status"]), (200, &json!("sending")));
        assert_eq!(shop.unread("user-00003").await, 0);
        work(&world).await;
        let done = ask(&shop, "GetCampaign", &id).await;
        assert_json_snapshot!("campaign_completed", steady(&done.body));
        assert_eq!(shop.all_unread(&uids(30)).await, vec![1; 30]);
        let feed = shop.as_user("user-00003", "ListFeedItems", json!({})).await;
        assert!(feed.body.to_string().contains("Hello Ada, your code is S-1."), "{feed:#?}");
        let of = json!({"notificationId": done.data()["notificationId"]});
        let notification = shop.call("GetNotification", of).await;
        let data = notification.data();
        assert_eq!((&data["campaignId"], &data["mode"], &data["sentCount"]), (&id, &json!("campaign"), &json!(30)));
        assert_eq!(with_status(&shop, &id, "completed").await, uids(30));
    }

    async fn an_rpc_is_refused_from_every_status_that_it_does_not_leave(world) {
        let shop = Shop::open(&world).await;
        let later = "2024-01-15T18:00:00.000Z";
        let steps: [(&str, &[&str]); 5] = [
            ("draft", &[]),
            ("scheduled", &["ScheduleCampaign"]),
            ("sending", &["SendCampaign"]),
            ("paused", &["SendCampaign", "PauseCampaign"]),
            ("cancelled", &["CancelCampaign"]),
        ];
        let leave: [(&str, &[&str]); 10] = [
            ("UpdateCampaign", &["draft"]),
            ("AddCampaignRecipients", &["draft"]),
            ("PreflightCampaign", &["draft", "scheduled"]),
            ("WatchCampaignPreflight", &["draft", "scheduled"]),
            ("SendCampaign", &["draft", "scheduled"]),
            ("ScheduleCampaign", &["draft", "scheduled"]),
            ("UnscheduleCampaign", &["scheduled"]),
            ("PauseCampaign", &["sending", "paused"]),
            ("ResumeCampaign", &["paused", "sending"]),
            ("DeleteCampaign", &["draft"]),
        ];
        for (from, steps) in steps {
            let id = ready(&shop, json!({}), &uids(12)).await;
            let request = |rpc: &str| {
                let mut request = json!({"campaignId": id});
                match rpc {
                    "ScheduleCampaign" => request["scheduledAt"] = json!(later),
                    "UpdateCampaign" => request["campaign"] = json!({"name": "Other"}),
                    "AddCampaignRecipients" => request["userIds"] = json!(["late"]),
                    _ => {}
                }
                request
            };
            for step in steps {
                shop.call(step, request(step)).await.data();
            }
            let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
            assert_eq!(before.0["data"]["status"], from);
            for (rpc, allowed) in leave.iter().filter(|(_, allowed)| !allowed.contains(&from)) {
                let refused = shop.call(rpc, request(rpc)).await;
                let (code, why, details) = refusal(&refused);
                assert_eq!((code, why), (400, "ERR_INVALID_STATE"), "{rpc} from {from}: {refused:#?}");
                assert_eq!(details, &json!({"state": from, "allowed": allowed.join(", ")}), "{rpc} from {from}");
            }
            assert_eq!((ask(&shop, "GetCampaign", &id).await.body, shop.rows().await), before, "from {from}");
        }
        let done = ready(&shop, json!({}), &uids(3)).await;
        ask(&shop, "SendCampaign", &done).await.data();
        work(&world).await;
        let refused = ask(&shop, "CancelCampaign", &done).await;
        assert_eq!(refusal(&refused).1, "ERR_INVALID_STATE");
        assert_eq!(status(&shop, &done).await, "completed");
    }

    async fn nothing_appears_behind_the_answer_to_a_pause_until_it_is_resumed(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(20)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        let paused = ask(&shop, "PauseCampaign", &id).await;
        assert_eq!(paused.data()["status"], "paused");
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(20)).await, vec![0; 20]);
        assert_eq!(summary(&shop, &id).await, json!([20, 0, 0, 0, 0]));
        let again = ask(&shop, "PauseCampaign", &id).await;
        assert_eq!(again.body, paused.body, "pausing again changes nothing");
        let resumed = ask(&shop, "ResumeCampaign", &id).await;
        assert_eq!(resumed.data()["status"], "sending");
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(20)).await, vec![1; 20]);
        assert_eq!(status(&shop, &id).await, "completed");
    }

    async fn whoever_was_not_reached_before_a_campaign_was_cancelled_never_is(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(20)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        let cancelled = ask(&shop, "CancelCampaign", &id).await;
        assert_eq!(cancelled.data()["status"], "cancelled");
        assert!(cancelled.data()["completedAt"].is_string());
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(20)).await, vec![0; 20]);
        assert_eq!(summary(&shop, &id).await, json!([0, 0, 0, 0, 20]));
        assert_eq!(with_status(&shop, &id, "cancelled").await, uids(20));
        let of = json!({"notificationId": cancelled.data()["notificationId"]});
        let notification = shop.call("GetNotification", of).await;
        let data = notification.data();
        assert_eq!((&data["status"], &data["receivers"][0]["status"]), (&json!("cancelled"), &json!("cancelled")));
        let again = ask(&shop, "CancelCampaign", &id).await;
        assert_eq!(again.body, cancelled.body, "cancelling again changes nothing");
    }

    async fn a_pause_that_went_no_further_than_its_intent_holds_a_campaign_for_a_while_only(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(20)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        // What a process leaves behind that died in the middle of a pause.
        let now = world.clock.now().millis();
        let intent = format!("UPDATE lanes SET state = 2, state_since = {now}");
        crate::batch::execute(&world.store().await, intent.leak()).await;
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(20)).await, vec![0; 20]);
        world.pass(std::time::Duration::from_secs(31));
        work(&world).await;
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(20)).await, vec![1; 20]);
        assert_eq!(status(&shop, &id).await, "completed");
    }

    async fn of_two_that_send_a_campaign_at_once_one_wins(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(5)).await;
        let (one, other) = join(ask(&shop, "SendCampaign", &id), ask(&shop, "SendCampaign", &id)).await;
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400], "{one:#?} {other:#?}");
        work(&world).await;
        assert_eq!(shop.all_unread(&uids(5)).await, vec![1; 5]);
    }

    async fn a_send_under_an_idempotency_key_is_answered_again_whatever_the_campaign_is_by_now(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(5)).await;
        let caller = shop.caller.once("send-1");
        let request = json!({"campaignId": id});
        let first = world.call("SendCampaign", &caller, request.clone()).await;
        work(&world).await;
        let again = world.call("SendCampaign", &caller, request).await;
        assert_eq!(first.body, again.body);
        let pausing = shop.caller.once("pause-1");
        let held = ready(&shop, json!({}), &uids(5)).await;
        ask(&shop, "SendCampaign", &held).await.data();
        let request = json!({"campaignId": held});
        let first = world.call("PauseCampaign", &pausing, request.clone()).await;
        ask(&shop, "CancelCampaign", &held).await.data();
        let again = world.call("PauseCampaign", &pausing, request).await;
        assert_eq!((first.status, first.body), (200, again.body));

        let resumed = ready(&shop, json!({}), &uids(5)).await;
        ask(&shop, "SendCampaign", &resumed).await.data();
        let (pausing, request) = (shop.caller.once("pause-2"), json!({"campaignId": resumed}));
        world.call("PauseCampaign", &pausing, request.clone()).await.data();
        ask(&shop, "ResumeCampaign", &resumed).await.data();
        world.call("PauseCampaign", &pausing, request).await.data();
        work(&world).await;
        assert_eq!(status(&shop, &resumed).await, "completed", "a repeated pause holds nothing");
    }

    async fn a_draft_is_changed_cloned_and_deleted(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({"templateId": "order-shipped", "variables": {"code": "1"}, "tag": "a"}), &uids(3)).await;
        let read = ask(&shop, "GetCampaign", &id).await;
        let back = json!({"campaignId": id, "campaign": read.data()});
        assert_eq!(shop.call("UpdateCampaign", back).await.status, 200, "what was read can be sent back");
        let change = json!({"name": "Summer sale", "tag": null, "ratePerSecond": 50, "variables": {"code": "2"}});
        let changed = shop.call("UpdateCampaign", json!({"campaignId": id, "campaign": change})).await;
        let data = changed.data();
        assert_eq!((&data["name"], &data["ratePerSecond"], &data["variables"]), (&json!("Summer sale"), &json!(50), &json!({"code": "2"})));
        for (fixed, field) in [(json!({"templateId": "plain"}), "templateId"), (json!({"templateVersion": 7}), "templateVersion")] {
            let refused = shop.call("UpdateCampaign", json!({"campaignId": id, "campaign": fixed})).await;
            assert_eq!(refused.status, 400);
            assert!(refusal(&refused).2.to_string().contains(field), "{refused:#?}");
        }
        let clone = shop.call("CloneCampaign", json!({"campaignId": id})).await;
        assert_eq!(clone.status, 201);
        assert_eq!((&clone.data()["name"], &clone.data()["totalTargets"]), (&json!("Summer sale (copy)"), &json!(0)));
        assert_eq!(clone.data()["variables"], json!({"code": "2"}));
        let deleted = ask(&shop, "DeleteCampaign", &id).await;
        assert_eq!(deleted.data()["id"], id);
        assert_eq!(refusal(&ask(&shop, "GetCampaign", &id).await).1, "ERR_CAMPAIGN_NOT_FOUND");
        let listed = shop.call("ListCampaigns", json!({})).await;
        assert_eq!(listed.data().as_array().unwrap().len(), 1);
        while campanile::domain::campaign::purge(&world.service, 2).await.unwrap() > 0 {}
        let rows = shop.rows().await;
        assert_eq!((rows["campaigns"], rows["notification_recipients"]), (1, 0));
    }

    async fn what_a_campaign_is_made_of_is_checked_before_anything_is_written(world) {
        let shop = Shop::open(&world).await;
        shop.draft("unapproved").await;
        let before = shop.rows().await;
        let campaign = |differs: Value| {
            let mut campaign = json!({"name": "Sale", "templateId": "order-shipped"});
            campaign.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
            json!({"campaign": campaign})
        };
        let image = json!({"url": "https://a.example/b.png", "width": 1, "height": 1});
        for (differs, code, field) in [
            (json!({"templateId": "nowhere"}), "ERR_TEMPLATE_NOT_FOUND", "templateId"),
            (json!({"templateId": "unapproved"}), "ERR_TEMPLATE_NOT_APPROVED", "templateId"),
            (json!({"templateVersion": 9}), "ERR_BAD_REQUEST", "templateVersion"),
            (json!({"variables": {"code": image}}), "ERR_INVALID_VARIABLES", "variables.code"),
            (json!({"config": {"variables": [1]}}), "ERR_BAD_REQUEST", "config.variables"),
            (json!({"name": "  "}), "ERR_BAD_REQUEST", "name"),
            (json!({"ratePerSecond": 0}), "ERR_BAD_REQUEST", "ratePerSecond"),
        ] {
            let refused = shop.call("CreateCampaign", campaign(differs)).await;
            let (_, why, details) = refusal(&refused);
            assert_eq!(why, code, "{refused:#?}");
            assert!(details.to_string().contains(field), "{refused:#?}");
        }
        let empty = draft(&shop, json!({})).await;
        let with_draft = shop.rows().await;
        for (rpc, when) in [("SendCampaign", json!(null)), ("ScheduleCampaign", json!("2024-01-15T18:00:00.000Z"))] {
            let mut request = json!({"campaignId": empty});
            if !when.is_null() {
                request["scheduledAt"] = when;
            }
            let refused = shop.call(rpc, request).await;
            assert_eq!(refusal(&refused).1, "ERR_INVALID_STATE");
            assert!(refused.body.to_string().contains("without recipients"), "{refused:#?}");
        }
        assert_eq!(shop.rows().await, with_draft);
        assert_eq!(before["campaigns"] + 1, with_draft["campaigns"]);
    }

    async fn campaigns_are_found_by_name_status_tag_and_template(world) {
        let shop = Shop::open(&world).await;
        let spring = draft(&shop, json!({"name": "Spring Sale", "tag": "a"})).await;
        world.pass(std::time::Duration::from_secs(1));
        let summer = draft(&shop, json!({"name": "Summer", "tag": "b", "templateId": "order-shipped"})).await;
        ask(&shop, "CancelCampaign", &summer).await.data();
        for (filter, found) in [
            (json!({"search": "sPrInG"}), vec![&spring]),
            (json!({"search": "%"}), vec![]),
            (json!({"status": "cancelled"}), vec![&summer]),
            (json!({"tag": "a"}), vec![&spring]),
            (json!({"templateId": "order-shipped"}), vec![&summer]),
            (json!({"templateId": "nowhere"}), vec![]),
            (json!({"sort": "name", "order": "asc"}), vec![&spring, &summer]),
        ] {
            let listed = shop.call("ListCampaigns", filter.clone()).await;
            let ids: Vec<_> = listed.data().as_array().unwrap().iter().map(|one| &one["id"]).collect();
            assert_eq!(ids, found, "{filter}");
        }
        add(&shop, &spring, &uids(2)).await.data();
        let first = shop.call("ListCampaigns", json!({"limit": 1, "order": "asc"})).await;
        let next = first.body["meta"]["next"].clone();
        let mut request = json!({"limit": 1, "order": "asc"});
        request.as_object_mut().unwrap().extend(next.as_object().unwrap().clone());
        let second = shop.call("ListCampaigns", request).await;
        assert_eq!((&first.data()[0]["id"], &second.data()[0]["id"]), (&spring, &summer));
    }

    async fn a_template_is_not_taken_back_while_a_campaign_waits_for_it(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        let when = json!({"campaignId": id, "scheduledAt": "2024-01-15T18:00:00.000Z"});
        shop.call("ScheduleCampaign", when).await.data();
        let back = json!({"templateId": "plain", "template": {"status": "draft"}});
        let refused = shop.call("UpdateTemplate", back.clone()).await;
        assert_eq!(refusal(&refused).1, "ERR_INVALID_STATE", "{refused:#?}");
        assert!(refused.body.to_string().contains(id.as_str().unwrap()), "{refused:#?}");
        ask(&shop, "CancelCampaign", &id).await.data();
        assert_eq!(shop.call("UpdateTemplate", back).await.status, 200);
    }

    async fn whoever_watches_a_campaign_sees_it_come_on_and_end(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(30)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        let working = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            work(&world).await;
        };
        let (watched, ()) = join(ask(&shop, "WatchCampaign", &id), working).await;
        let events = watched.data().as_array().unwrap();
        let (first, last) = (&events[0]["data"], &events.last().unwrap()["data"]);
        assert_eq!((&first["status"], &first["recipients"]["pending"]), (&json!("sending"), &json!(30)));
        assert_eq!((&last["status"], &last["recipients"]["completed"]), (&json!("completed"), &json!(30)));
    }
}

on_both! {
    async fn nothing_is_claimed_of_a_paused_campaign_whoever_went_on_with_it_meanwhile(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(5)).await;
        ask(&shop, "SendCampaign", &id).await.data();
        let store = world.store().await;
        let backend = store.read().get_database_backend();
        let mut paused = 0;
        for round in 0..60 {
            let calls = ["PauseCampaign", "PauseCampaign", "ResumeCampaign", "PauseCampaign"];
            join_all(calls.map(|rpc| ask(&shop, rpc, &id))).await;
            let held = "SELECT COUNT(*) AS n FROM lanes WHERE state = 2";
            let row = store.read().query_one_raw(Statement::from_string(backend, held)).await.unwrap().unwrap();
            let held: i64 = row.try_get("", "n").unwrap();
            if status(&shop, &id).await == "paused" {
                paused += 1;
                assert_eq!(held, 1, "round {round}: workers find a lane that has nothing for them");
            }
            ask(&shop, "ResumeCampaign", &id).await;
        }
        assert!(paused > 0);
    }
}
