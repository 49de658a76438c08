//! An app that is ready to send: a bell, and two approved templates.

use std::collections::BTreeMap;

use campanile::store::Store;
use serde_json::{Value, json};

use super::rows::rows;
use super::rpc::Answer;
use super::world::{Caller, World};

/// One app of a world.
pub(crate) struct Shop<'w> {
    world: &'w World,
    store: Store,
    /// Whoever presents its key.
    pub(crate) caller: Caller,
}

/// A card that shows a text.
pub(crate) fn card(text: &str) -> Value {
    json!({
        "version": "1.0",
        "body": [{"id": "text", "type": "text", "content": text}],
        "style": {"background": {"light": "#FFFFFF", "dark": "#1A1A1A"}},
        "fallbackText": text,
    })
}

impl<'w> Shop<'w> {
    /// An app `shop` with the channel `bell`, and the templates `order-shipped`, which needs a `code`, and `plain`.
    pub(crate) async fn open(world: &'w World) -> Self {
        let tenant = world.tenant("shop").await;
        let shop = Self {
            world,
            store: world.store().await,
            caller: tenant.caller,
        };
        let bell = json!({"channel": {"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true}});
        shop.call("CreateChannel", bell).await.data();
        let order = json!({
            "name": "Order shipped",
            "templateCategory": "Transactional",
            "label": "Orders",
            "alternativeText": "Your order is on its way.",
            "tags": ["orders", "shipping"],
            "channels": [{
                "channelType": "in_app",
                "content": card("Hello {{ name }}, your code is {{code}}. {{unknown}}"),
                "messageRetentionHours": 48,
            }],
            "variableSchema": [
                {"key": "code", "required": true},
                {"key": "name", "required": true, "defaultValue": "you"},
                {"key": "unknown"},
            ],
        });
        shop.template("order-shipped", order).await;
        shop.template("plain", json!({})).await;
        shop
    }

    /// Calls an rpc as the app.
    pub(crate) async fn call(&self, rpc: &str, request: Value) -> Answer {
        self.world.call(rpc, &self.caller, request).await
    }

    /// Calls an rpc for a user.
    pub(crate) async fn as_user(&self, uid: &str, rpc: &str, request: Value) -> Answer {
        self.world.call(rpc, &self.caller.on_behalf_of(uid), request).await
    }

    /// Makes an approved template, with what differs from a plain one, and gives its id.
    pub(crate) async fn template(&self, slug: &str, differs: Value) -> String {
        self.make_template(slug, "approved", differs).await
    }

    /// Makes a template that is a draft.
    pub(crate) async fn draft(&self, slug: &str) -> String {
        self.make_template(slug, "draft", json!({})).await
    }

    async fn make_template(&self, slug: &str, status: &str, differs: Value) -> String {
        let mut template = json!({
            "templateId": slug,
            "name": slug,
            "status": status,
            "channels": [{"channelType": "in_app", "content": card(slug)}],
        });
        let fields = template.as_object_mut().unwrap();
        fields.extend(differs.as_object().unwrap().clone());
        let made = self.call("CreateTemplate", json!({"template": template})).await;
        made.data()["id"].as_str().unwrap().to_owned()
    }

    /// How many items of a user are unread.
    pub(crate) async fn unread(&self, uid: &str) -> i64 {
        let count = self.as_user(uid, "GetUnreadCount", json!({})).await;
        count.data()["count"].as_i64().unwrap()
    }

    /// How many items of each of some users are unread.
    pub(crate) async fn all_unread(&self, uids: &[String]) -> Vec<i64> {
        let mut counts = Vec::new();
        for uid in uids {
            counts.push(self.unread(uid).await);
        }
        counts
    }

    /// How many rows every table has.
    pub(crate) async fn rows(&self) -> BTreeMap<String, i64> {
        rows(&self.store).await
    }
}
