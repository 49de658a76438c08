//! What typed variables do: what they put into content, which values are refused with the caller's own path, and that a
//! refused send changed nothing. Places and escaping one by one are proven beside `model::render`.

use serde_json::{Value, json};

use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::shop::{Shop, card};
use crate::support::world::call;

fn gallery() -> Value {
    let mut card = card("Hello {{name}}");
    card["body"] = json!([
        {"id": "text", "type": "text", "content": "Hello {{name}}"},
        {"id": "hero", "type": "image", "url": "{{hero}}"},
        {"id": "sized", "type": "image", "url": "{{hero}}", "width": "50%"},
        {"id": "face", "type": "avatar", "imageUrl": "{{hero}}", "fallbackInitials": "{{initials}}"},
        {"id": "go", "type": "button", "label": "Go", "action": "{{press}}"},
        {"id": "call", "type": "iconButton", "icon": {"url": "{{hero}}"}, "action": "{{own}}"},
        {"id": "shop", "type": "link", "text": "Shop", "action": {"type": "openUrl", "url": "{{link}}"}},
        {"id": "find", "type": "link", "text": "Find", "action": {"type": "openUrl", "url": "https://shop.example/?q={{name}}"}},
    ]);
    card
}

async fn gallery_shop<'w>(world: &'w crate::support::world::World) -> Shop<'w> {
    let shop = Shop::open(world).await;
    let template = json!({
        "channels": [{"channelType": "in_app", "content": gallery()}],
        "variableSchema": [
            {"key": "hero", "type": "image"},
            {"key": "press", "type": "action", "required": true},
            {"key": "own", "type": "action"},
            {"key": "name"},
        ],
    });
    shop.template("gallery", template).await;
    shop
}

fn hero() -> Value {
    json!({"url": "https://cdn.example/a b.png", "width": 640, "height": 480})
}

fn press() -> Value {
    json!({"type": "web", "data": "https://shop.example/orders/1"})
}

async fn send(shop: &Shop<'_>, own: Value, defaults: Value) -> Answer {
    let request = json!({"templateId": "gallery", "receivers": ["ada", "bob"], "variables": own, "defaults": defaults});
    shop.call("SendNotification", request).await
}

fn details(answer: &Answer) -> Value {
    answer.body["error"]["details"].clone()
}

everywhere! {
    async fn values_of_each_type_stand_where_their_token_stood(world) {
        let shop = gallery_shop(&world).await;
        let own = json!({"ada": {"name": "Ada & <Co> ?", "own": {"type": "custom", "data": "order:1"}, "hero": hero(), "link": "shop://orders/1", "initials": "AB"}});
        send(&shop, own, json!({"press": press()})).await.data();
        let feed = shop.as_user("ada", "ListFeedItems", json!({})).await;
        let item = &feed.data()[0];
        let (url, go) = ("https://cdn.example/a b.png", json!({"type": "openUrl", "url": "https://shop.example/orders/1"}));
        assert_eq!(item["content"]["body"], json!([
            {"id": "text", "type": "text", "content": "Hello Ada & <Co> ?"},
            {"id": "hero", "type": "image", "url": url, "width": 640, "height": 480},
            {"id": "sized", "type": "image", "url": url, "width": "50%"},
            {"id": "face", "type": "avatar", "imageUrl": url, "fallbackInitials": "AB"},
            {"id": "go", "type": "button", "label": "Go", "action": go},
            {"id": "call", "type": "iconButton", "icon": {"url": url}, "action": {"type": "customCallback", "callbackId": "order:1"}},
            {"id": "shop", "type": "link", "text": "Shop", "action": {"type": "openUrl", "url": "shop://orders/1"}},
            {"id": "find", "type": "link", "text": "Find", "action": {"type": "openUrl", "url": "https://shop.example/?q=Ada%20%26%20%3CCo%3E%20%3F"}},
        ]));
        assert_eq!(item["variables"], json!({
            "name": "Ada & <Co> ?", "own": {"type": "custom", "data": "order:1"}, "hero": hero(),
            "link": "shop://orders/1", "initials": "AB", "press": press(),
        }));
    }

    async fn an_optional_variable_without_value_stays_as_it_is_written_in_any_place(world) {
        let shop = gallery_shop(&world).await;
        send(&shop, json!({}), json!({"press": press()})).await.data();
        let feed = shop.as_user("bob", "ListFeedItems", json!({})).await;
        let mut expected = gallery()["body"].clone();
        expected[4]["action"] = json!({"type": "openUrl", "url": "https://shop.example/orders/1"});
        assert_eq!(feed.data()[0]["content"]["body"], expected);
    }

    async fn a_value_that_is_wrong_anywhere_is_refused_with_its_own_path(world) {
        let shop = gallery_shop(&world).await;
        let before = shop.rows().await;
        let own = json!({"ada": {
            "hero": {"url": "data:image/png;base64,AA", "width": 1, "height": 1},
            "press": {"type": "web", "data": "JavaScript:alert(1)"},
            "link": {"type": "web", "data": "https://{{host}}/"},
        }});
        let refused = send(&shop, own, json!({"own": {"type": "web", "data": "/orders"}})).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"));
        let link = "must be a URL of at most 2048 characters with the scheme http, https, mailto, tel, sms or an app's own as in \
                    app://path, or one variable as a whole";
        assert_eq!(details(&refused), json!({
            "variables.ada.hero.url": "must be an http or https URL of at most 2048 characters, or one variable as a whole, received \"data:image/png;base64,AA\"",
            "variables.ada.press.data": "must not have the scheme javascript, received \"JavaScript:alert(1)\"",
            "variables.ada.link.data": "must not hold variables, because values are taken as they are, received \"https://{{host}}/\"",
            "defaults.own.data": format!("{link}, received \"/orders\""),
        }));
        let own = json!({"ada": {
            "hero": {"url": "https://cdn.example/a.png", "width": 0},
            "press": {"type": "web"},
            "own": {"data": "x"},
        }});
        let refused = send(&shop, own, json!({})).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"));
        let paths: Vec<_> = details(&refused).as_object().unwrap().keys().cloned().collect();
        assert_eq!(paths, ["variables.ada.hero.height", "variables.ada.hero.width", "variables.ada.own.type", "variables.ada.press.data"]);
        assert_eq!(shop.rows().await, before);
    }

    async fn a_value_of_another_type_than_declared_is_refused_with_both_types(world) {
        let shop = gallery_shop(&world).await;
        let before = shop.rows().await;
        let own = json!({"ada": {"hero": "https://cdn.example/a.png", "name": hero(), "link": press()}});
        let refused = send(&shop, own, json!({"press": hero()})).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_VARIABLES"));
        assert_eq!(details(&refused), json!({
            "variables.ada.hero": "must be of type image, as the template declares it, received \"string\"",
            "variables.ada.name": "must be of type string, as the template declares it, received \"image\"",
            "variables.ada.link": "must be of type string, because the template does not declare it, received \"action\"",
            "defaults.press": "must be of type action, as the template declares it, received \"image\"",
        }));
        let refused = send(&shop, json!({}), json!({})).await;
        assert_eq!(details(&refused), json!({
            "variables.ada.press": "is required by the template",
            "variables.bob.press": "is required by the template",
        }));
        assert_eq!(shop.rows().await, before);
    }

    async fn what_a_text_breaks_once_it_is_filled_in_is_refused_and_never_reaches_a_feed(world) {
        let shop = gallery_shop(&world).await;
        let before = shop.rows().await;
        let own = json!({"ada": {"link": "javascript:alert(1)", "initials": "ABC"}, "bob": {"name": "x".repeat(2_040)}});
        let refused = send(&shop, own, json!({"press": press(), "link": " javascript:alert(2)"})).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_VARIABLES"), "{refused:#?}");
        let details = details(&refused);
        let fields: Vec<_> = details.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["defaults.link", "variables.ada.link"], "{details:#}");
        assert_eq!(details["variables.ada.link"], "must not have the scheme javascript, received \"javascript:alert(1)\"");
        let own = json!({"ada": {"initials": "ABC"}, "bob": {"name": "x".repeat(2_040)}});
        let refused = send(&shop, own, json!({"press": press()})).await;
        let details = self::details(&refused);
        let fields: Vec<_> = details.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["variables.ada.initials", "variables.bob.name"], "{details:#}");
        assert_eq!(shop.rows().await, before);
    }

    async fn only_texts_have_defaults(world) {
        let shop = Shop::open(&world).await;
        let before = shop.rows().await;
        let schema = json!([
            {"key": "hero", "type": "image", "defaultValue": "https://cdn.example/a.png"},
            {"key": "press", "type": "action", "default": "x"},
            {"key": "name", "type": "string", "default": "x"},
        ]);
        let template = json!({"templateId": "new", "name": "New", "channels": [{"channelType": "in_app"}], "variableSchema": schema});
        let refused = shop.call("CreateTemplate", json!({"template": template})).await;
        let details: Vec<_> = details(&refused).as_object().unwrap().iter().map(|(path, rule)| {
            let path = path.strip_prefix("template.").unwrap_or(path);
            format!("{path} {}", rule.as_str().unwrap())
        }).collect();
        assert_eq!(details, [
            "variableSchema[0].defaultValue must be absent, because a variable of type image has no default, received \"https://cdn.example/a.png\"",
            "variableSchema[1].default must be absent, because a variable of type action has no default, received \"x\"",
        ]);
        assert_eq!(shop.rows().await, before);
    }

    async fn a_repeat_with_typed_values_is_the_same_send_through_either_door(world) {
        let shop = gallery_shop(&world).await;
        let request = json!({"templateId": "gallery", "receivers": ["ada"], "defaults": {"press": press(), "hero": hero()}});
        let once = shop.caller.once("key-1");
        let first = world.call("SendNotification", &once, request.clone()).await;
        assert_eq!((first.status, first.replayed), (200, false), "{first:#?}");
        for door in [Door::Rest, Door::Grpc] {
            let again = call(&world.through(door), "SendNotification", &once, &request).await;
            assert!(again.replayed);
            assert_eq!(again.body, first.body);
        }
        let mut other = request;
        other["defaults"]["hero"]["height"] = json!(481);
        assert_eq!(world.call("SendNotification", &once, other).await.status, 409);
        assert_eq!(shop.unread("ada").await, 1);
    }

    async fn a_preview_shows_each_channel_and_says_what_is_wrong_without_refusing(world) {
        let shop = Shop::open(&world).await;
        let template = json!({
            "channels": [
                {"channelType": "in_app", "content": gallery()},
                {"channelType": "email", "content": {"subject": "Hi {{name}}", "html": "<p>{{name}}</p>"}},
            ],
            "variableSchema": [
                {"key": "hero", "type": "image"},
                {"key": "press", "type": "action", "required": true},
                {"key": "own", "type": "action"},
                {"key": "name"},
                {"key": "code", "required": true},
            ],
            "status": "draft",
        });
        shop.template("looked-at", template).await;
        let before = shop.rows().await;
        let request = json!({"templateId": "looked-at", "variables": {
            "name": "<b>\r\nBcc: x", "press": "x", "link": "javascript:x", "hero": hero(), "other": "1",
        }});
        let shown = shop.call("PreviewTemplate", request).await;
        let data = shown.data();
        assert_eq!((&data["templateVersion"], &data["sendable"]), (&json!(1), &json!(false)));
        assert_eq!(data["channels"][0]["content"]["body"][1]["width"], 640);
        assert_eq!(data["channels"][0]["content"]["body"][6]["action"]["url"], "{{link}}");
        assert_eq!(data["channels"][1], json!({
            "channelType": "email", "dataType": "ui_template",
            "content": {"subject": "Hi <b>Bcc: x", "html": "<p>&lt;b&gt;\r\nBcc: x</p>"},
        }));
        let problems: Vec<_> = data["problems"].as_array().unwrap().iter().map(|problem| {
            format!("{} {} {}", problem["kind"].as_str().unwrap(), problem["key"].as_str().unwrap(), problem["blocking"])
        }).collect();
        assert_eq!(problems, [
            "mistyped press true", "undeclared link false", "undeclared other false", "missing code true",
            "missing initials false", "missing own false", "unfit link true",
        ]);
        let one = shop.call("PreviewTemplate", json!({"templateId": "looked-at", "channelTypes": ["email"], "templateVersion": 1})).await;
        assert_eq!(one.data()["channels"].as_array().unwrap().len(), 1);
        let fits = json!({"templateId": "looked-at", "variables": {"press": press(), "code": "1"}});
        assert_eq!(shop.call("PreviewTemplate", fits).await.data()["sendable"], true);
        for (wrong, path) in [
            (json!({"templateId": "looked-at", "channelTypes": ["push"]}), "channelTypes[0]"),
            (json!({"templateId": "looked-at", "templateVersion": 9}), "templateVersion"),
        ] {
            let refused = shop.call("PreviewTemplate", wrong).await;
            assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"));
            assert!(details(&refused)[path].is_string(), "{refused:#?}");
        }
        let missing = shop.call("PreviewTemplate", json!({"templateId": "nothing"})).await;
        assert_eq!((missing.status, missing.code()), (404, "ERR_TEMPLATE_NOT_FOUND"));
        assert_eq!(shop.rows().await, before);
    }
}
