//! How templates end and begin anew: archived, taken back, cloned; and lists by tag.

use insta::assert_json_snapshot;
use serde_json::json;

use super::{create, get, least, list, update, versions};
use crate::everywhere;
use crate::support::world::steady;

everywhere! {
    async fn archiving_hides_a_template_and_keeps_the_first_time(world) {
        let shop = world.tenant("shop").await;
        let mut order = least("order");
        order["status"] = json!("approved");
        create(&world, &shop, order).await.data();
        let archive = || world.call("ArchiveTemplate", &shop.caller, json!({"templateId": "order"}));
        let archived = archive().await;
        assert_json_snapshot!("template_archived", steady(&archived.body));
        let after = get(&world, &shop, "order").await;
        assert_eq!(after.data()["archivedAt"], archived.data()["deletedAt"]);
        assert_eq!(list(&world, &shop, json!({})).await, [""; 0]);
        assert_eq!(list(&world, &shop, json!({"status": "archived"})).await, ["order"]);
        let send = json!({"templateId": "order", "receivers": ["ada"]});
        let refused = world.call("SendNotification", &shop.caller, send).await;
        assert_eq!(refused.code(), "ERR_TEMPLATE_NOT_APPROVED");
        // Once more, later: nothing changes, not even the etag.
        world.pass(std::time::Duration::from_secs(60));
        assert_eq!(archive().await.body, archived.body);
        assert_eq!(get(&world, &shop, "order").await.body, after.body);
        // It goes back to draft, and only then to approved.
        assert_eq!(update(&world, &shop, "order", json!({"status": "approved"})).await.code(), "ERR_INVALID_STATE");
        let draft = update(&world, &shop, "order", json!({"status": "draft"})).await;
        assert_eq!(draft.data().get("archivedAt"), None);
        assert_eq!(versions(&world, &shop, "order").await, [(1, true)]);
        // Archived by its status, it says since when as well.
        let by_status = update(&world, &shop, "order", json!({"status": "archived"})).await;
        assert_eq!(by_status.data()["archivedAt"], by_status.data()["updatedAt"]);
        let mut born = least("born-archived");
        born["status"] = json!("archived");
        let born = create(&world, &shop, born).await;
        assert_eq!(born.data()["archivedAt"], born.data()["createdAt"]);
    }

    async fn a_clone_is_a_draft_of_its_own(world) {
        let shop = world.tenant("shop").await;
        let mut order = least("order");
        order["status"] = json!("approved");
        order["tags"] = json!(["shop"]);
        order["label"] = json!("Orders");
        order["templateCategory"] = json!("Transactional");
        order["variableSchema"] = json!([{"key": "name", "required": true}]);
        create(&world, &shop, order).await.data();
        let sms = json!({"templateId": "order", "channelType": "sms", "channel": {"content": {"body": "b"}}});
        world.call("SetTemplateChannel", &shop.caller, sms).await.data();
        let source = get(&world, &shop, "order").await;

        let whole = world.call("CloneTemplate", &shop.caller, json!({"templateId": "order"})).await;
        assert_eq!(whole.status, 201);
        assert_json_snapshot!("template_cloned", steady(&whole.body));
        assert_eq!(whole.data()["channels"], source.data()["channels"]);
        let chosen = json!({"templateId": "order", "templateVersion": 1, "name": "Spring", "newTemplateId": "spring"});
        let once = shop.caller.once("spring");
        let older = world.call("CloneTemplate", &once, chosen.clone()).await;
        assert_eq!((&older.data()["templateId"], &older.data()["name"]), (&json!("spring"), &json!("Spring")));
        assert_eq!(older.data()["channels"], source.data()["versions"][1]["channels"]);
        assert!(world.call("CloneTemplate", &once, chosen.clone()).await.replayed);
        // Changing the clone leaves the source alone.
        update(&world, &shop, "spring", json!({"channels": [{"channelType": "email", "content": {"subject": "s", "text": "t"}}]})).await.data();
        assert_eq!(get(&world, &shop, "order").await.body, source.body);

        let all = list(&world, &shop, json!({})).await;
        for (request, status, code, detail) in [
            (chosen, 409, "ERR_TEMPLATE_ALREADY_EXISTS", "templateId"),
            (json!({"templateId": "order", "templateVersion": 3}), 400, "ERR_BAD_REQUEST", "templateVersion"),
            (json!({"templateId": "order", "name": "  "}), 400, "ERR_BAD_REQUEST", "name"),
            (json!({"templateId": "order", "newTemplateId": "categories"}), 400, "ERR_BAD_REQUEST", "newTemplateId"),
            (json!({"templateId": "nothing"}), 404, "ERR_TEMPLATE_NOT_FOUND", "templateId"),
        ] {
            let refused = world.call("CloneTemplate", &shop.caller, request.clone()).await;
            assert_eq!((refused.status, refused.code()), (status, code), "{request}");
            assert!(refused.body["error"]["details"].get(detail).is_some(), "{request}: {refused:#?}");
        }
        assert_eq!(list(&world, &shop, json!({})).await, all);
    }

    async fn a_clone_of_a_version_without_a_sequence_leaves_it_switched_off(world) {
        let shop = world.tenant("shop").await;
        let mut order = least("order");
        order["status"] = json!("approved");
        create(&world, &shop, order).await.data();
        let sequence = json!({
            "config": {"sequenceEnabled": true, "owner": "growth"},
            "channels": [
                {"channelType": "in_app", "sequenceOrder": 1, "stopCondition": "delivered", "waitMinutes": 5},
                {"channelType": "sms", "content": {"body": "b"}, "sequenceOrder": 2},
            ],
        });
        update(&world, &shop, "order", sequence).await.data();
        let newest = world.call("CloneTemplate", &shop.caller, json!({"templateId": "order"})).await;
        assert_eq!(newest.data()["config"], json!({"sequenceEnabled": true, "owner": "growth"}));
        let first = world.call("CloneTemplate", &shop.caller, json!({"templateId": "order", "templateVersion": 1})).await;
        assert_eq!(first.data()["config"], json!({"owner": "growth"}));
    }

    async fn lists_find_tags_any_or_all(world) {
        let shop = world.tenant("shop").await;
        for (slug, tags) in [("a", vec!["x"]), ("b", vec!["x", "y"]), ("c", vec!["y", "z"]), ("d", vec![]), ("e", vec!["X", "x,y"])] {
            let mut template = least(slug);
            template["tags"] = json!(tags);
            create(&world, &shop, template).await.data();
        }
        for (parameters, expected) in [
            (json!({"tags": ["x"]}), "b a"),
            (json!({"tags": ["x", "z"]}), "c b a"),
            (json!({"tags": ["x", "z"], "tagMatch": "any"}), "c b a"),
            (json!({"tags": ["x", "y"], "tagMatch": "all"}), "b"),
            (json!({"tags": ["x", "z"], "tagMatch": "all"}), ""),
            (json!({"tagMatch": "all"}), "e d c b a"),
            (json!({"tags": ["nothing"]}), ""),
            (json!({"tags": ["y"], "search": "c"}), "c"),
        ] {
            assert_eq!(list(&world, &shop, parameters.clone()).await.join(" "), expected, "{parameters}");
        }
        // A walk under the filter neither skips nor repeats.
        let mut walked = Vec::new();
        let mut next = json!({"tags": ["x", "y"], "limit": 1});
        loop {
            let page = world.call("ListTemplates", &shop.caller, next.clone()).await;
            walked.push(page.data()[0]["templateId"].as_str().unwrap().to_owned());
            let Some(cursor) = page.body["meta"].get("next") else { break };
            for (name, value) in cursor.as_object().unwrap() {
                next[name] = value.clone();
            }
            assert!(walked.len() <= 3, "{walked:?}");
        }
        assert_eq!(walked, ["c", "b", "a"]);
    }
}
