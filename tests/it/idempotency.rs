//! The header `Idempotency-Key` where no key is needed. What a key does is proven with the store and with the nouns.

use serde_json::json;

use crate::everywhere;

everywhere! {
    async fn calls_that_can_be_repeated_anyway_ignore_the_key(world) {
        let shop = world.tenant("shop").await;
        let user = json!({"user": {"uid": "ada", "name": "Ada"}});
        world.call("CreateUser", &shop.caller, user).await.data();
        // Not even a form is asked of a key that means nothing.
        let caller = shop.caller.once("not a key");
        for name in ["Grace", "Hedy"] {
            let changed = world.call("UpdateUser", &caller, json!({"uid": "ada", "user": {"name": name}})).await;
            assert_eq!((&changed.data()["name"], changed.replayed), (&json!(name), false));
        }
        let read = world.call("GetUser", &caller, json!({"uid": "ada"})).await;
        assert_eq!((&read.data()["name"], read.replayed), (&json!("Hedy"), false));
        let refused = world.call("CreateUser", &caller, json!({"user": {"uid": "bob", "name": "Bob"}})).await;
        assert_eq!(refused.status, 400, "it counts where one is taken");
    }
}
