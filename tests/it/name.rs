//! What every noun with a name asks of it. What else a noun asks is in the file of the noun.

use serde_json::{Value, json};

use crate::catalog::at_root;
use crate::everywhere;
use crate::support::rows::rows;
use crate::support::rpc::Answer;
use crate::support::world::Caller;

/// A noun, the field of requests that holds it, and the one that names it.
type Noun = (&'static str, &'static str, &'static str);

const NOUNS: [Noun; 6] = [
    ("App", "app", "appId"),
    ("ApiKey", "apiKey", "apiKeyId"),
    ("User", "user", "uid"),
    ("Channel", "channel", "channelId"),
    ("Category", "category", "categoryId"),
    ("Template", "template", "templateId"),
];

/// One entity of a noun with this name.
fn entity(noun: &str, name: &str) -> Value {
    match noun {
        "App" => json!({"id": "other", "name": name}),
        "ApiKey" => json!({"name": name, "scope": "authOnly"}),
        "User" => json!({"uid": "ada", "name": name}),
        "Channel" => json!({"channelId": "bell", "type": "in_app", "name": name}),
        "Category" => json!({"name": name}),
        "Template" => json!({"templateId": "order", "name": name, "channels": [{"channelType": "in_app"}]}),
        other => unreachable!("{other} has no name"),
    }
}

fn blank(name: &str) -> Value {
    json!({"name": format!("must match \\S, received {name:?}")})
}

#[track_caller]
fn refused(resource: &str, answer: &Answer, name: &str) {
    assert_eq!(
        (answer.status, answer.code()),
        (400, "ERR_BAD_REQUEST"),
        "{resource} {name:?}"
    );
    assert_eq!(
        at_root(resource, &answer.body["error"])["details"],
        blank(name),
        "{resource}"
    );
}

everywhere! {
    async fn a_name_of_spaces_alone_is_refused_everywhere_and_changes_nothing(world) {
        let shop = world.tenant("shop").await;
        let store = world.store().await;
        for (noun, resource, key) in NOUNS {
            let caller = if noun == "App" { Caller::operator() } else { shop.caller.clone() };
            let (create, update, get) = (format!("Create{noun}"), format!("Update{noun}"), format!("Get{noun}"));
            let before = rows(&store).await;
            for name in [" ", "   ", "\t\n", "\u{a0}\u{3000}"] {
                refused(resource, &world.call(&create, &caller, json!({resource: entity(noun, name)})).await, name);
            }
            assert_eq!(rows(&store).await, before, "{noun}");

            // Spaces around something are kept as they were given.
            let made = world.call(&create, &caller, json!({resource: entity(noun, " Two words ")})).await;
            assert_eq!(made.data()["name"], " Two words ", "{noun}");
            let id = made.data().get("id").unwrap_or(&made.data()["uid"]).clone();
            let read = world.call(&get, &caller, json!({key: id})).await;
            let change = json!({key: id, resource: {"name": "  "}});
            refused(resource, &world.call(&update, &caller, change).await, "  ");
            assert_eq!(world.call(&get, &caller, json!({key: id})).await.body, read.body, "{noun}");
        }
    }
}
