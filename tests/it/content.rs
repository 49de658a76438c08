//! What callers see of the rules of content: what is refused when a template is saved, with every fault, and that nothing
//! is saved then. The rules one by one are proven beside `model::card` and `model::template::content`; lives and versions
//! of templates are in `template.rs`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::catalog::at_root;
use crate::everywhere;
use crate::support::shop::{Shop, card};

async fn create(shop: &Shop<'_>, channels: Value, schema: Value) -> crate::support::rpc::Answer {
    let template = json!({"templateId": "new", "name": "New", "channels": channels, "variableSchema": schema});
    shop.call("CreateTemplate", json!({"template": template})).await
}

async fn update(shop: &Shop<'_>, change: Value) -> crate::support::rpc::Answer {
    shop.call("UpdateTemplate", json!({"templateId": "plain", "template": change}))
        .await
}

fn broken() -> Value {
    json!({
        "version": "1.1",
        "body": [
            {"id": "a", "type": "text", "content": 7, "variant": "huge"},
            {"id": "a", "type": "divider", "thickness": -1},
            {"id": "b", "type": "row", "items": [
                {"id": "c", "type": "button", "label": "x", "action": {"type": "openUrl", "url": "JaVaScRiPt:alert(1)"}},
                {"id": "e", "type": "image", "url": "{{base}}/a.png", "fit": "{{fit}}", "link": "x"},
            ]},
        ],
        "style": {"background": {"light": "white", "dark": "#000000"}},
        "fallbackText": "",
    })
}

everywhere! {
    async fn a_card_of_many_faults_is_refused_with_all_of_them_and_nothing_is_saved(world) {
        let shop = Shop::open(&world).await;
        let before = shop.rows().await;
        let refused = create(&shop, json!([{"channelType": "in_app", "content": broken()}]), json!([])).await;
        assert_json_snapshot!("card_refused", at_root("template", &refused.refusal()));
        let plain = shop.call("GetTemplate", json!({"templateId": "plain"})).await.body;
        let refused = update(&shop, json!({"name": "Other", "channels": [{"channelType": "in_app", "content": broken()}]})).await;
        assert_json_snapshot!("card_refused", at_root("template", &refused.refusal()));
        assert_eq!(shop.rows().await, before);
        assert_eq!(shop.call("GetTemplate", json!({"templateId": "plain"})).await.body, plain);
    }

    async fn content_of_every_other_type_follows_its_rule_and_nothing_is_saved_otherwise(world) {
        let shop = Shop::open(&world).await;
        let before = shop.rows().await;
        let refused = create(&shop, json!([
            {"channelType": "push", "content": {"title": "", "imageUrl": "data:image/png;base64,AA", "deepLink": "javascript:x", "data": {"aps": "x", "a b": 1}, "sound": "ping"}},
        ]), json!([])).await;
        assert_json_snapshot!("content_push_refused", at_root("template", &refused.refusal()));
        let refused = create(&shop, json!([
            {"channelType": "email", "content": {"subject": "a\r\nBcc: everyone@example.com", "preheader": "x"}},
            {"channelType": "sms", "content": {"text": "x"}},
            {"channelType": "whatsapp"},
            {"channelType": "custom", "content": {"body": ""}},
        ]), json!([])).await;
        assert_json_snapshot!("content_refused", at_root("template", &refused.refusal()));
        let both = json!([{"channelType": "email", "content": {"subject": "s", "html": "<p>", "mjml": "<mjml>"}}]);
        let refused = create(&shop, both, json!([])).await;
        assert_json_snapshot!("content_html_and_mjml", at_root("template", &refused.refusal()));
        let large = json!([{"channelType": "push", "content": {"title": "t", "body": "x".repeat(4_097)}}]);
        let refused = create(&shop, large, json!([])).await;
        assert_json_snapshot!("content_push_too_large", at_root("template", &refused.refusal()));
        assert_eq!(shop.rows().await, before);
    }

    async fn sound_content_of_every_type_is_saved_as_it_was_sent(world) {
        let shop = Shop::open(&world).await;
        let channels = json!([
            {"channelType": "in_app", "content": card("Hello {{name}}")},
            {"channelType": "push", "content": {"title": "Hi {{name}}", "body": "a\nb", "imageUrl": "{{picture}}", "deepLink": "shop://orders/{{id}}", "data": {"order": "{{id}}"}}},
            {"channelType": "email", "content": {"subject": "Hi {{name}}", "text": "x", "html": "<p>{{name}}</p>"}},
            {"channelType": "sms", "content": {"body": "{{name}}"}},
            {"channelType": "whatsapp", "content": {"anything": [1, true]}, "dataType": "data_template"},
            {"channelType": "custom", "dataType": "data_template"},
        ]);
        let made = create(&shop, channels.clone(), json!([{"key": "name"}])).await;
        for (index, sent) in channels.as_array().unwrap().iter().enumerate() {
            assert_eq!(made.data()["channels"][index]["content"], sent["content"], "{sent}");
        }
    }
}
