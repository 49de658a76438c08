//! Preflights of audiences whose values do not fit: everybody at fault is found with the path and the rule, nobody else is,
//! and the campaign, when it is sent all the same, fails exactly them.

use campanile::model::campaign::preflight::{PROBLEMS_MAX, PROBLEMS_OF_ONE_MAX, SAMPLES_MAX};
use serde_json::{Map, Value, json};

use super::{ask, draft, status, summary, uids, with_status, work};
use crate::everywhere;
use crate::sequence::{provided, settle, taken};
use crate::support::shop::{Shop, card};

/// What somebody is refused for whose URL is none.
const NO_URL: &str = "must be an http or https URL of at most 2048 characters, or one variable as a whole";
/// The bytes that the services behind devices take.
const PUSH_BYTES: usize = 4_096;

/// A card with this body.
fn in_app(body: &Value) -> Value {
    let mut content = card("Hello");
    content["body"] = body.clone();
    json!({"channelType": "in_app", "content": content})
}

/// Makes a template of these channels and this schema, and a campaign of it for people with values of their own.
async fn prepare(shop: &Shop<'_>, (channels, schema): (Value, Value), people: &[(&str, Value)]) -> Value {
    let template = json!({"channels": channels, "variableSchema": schema});
    shop.template("exacting", template).await;
    let id = draft(shop, json!({"templateId": "exacting"})).await;
    let uids: Vec<_> = people.iter().map(|(uid, _)| *uid).collect();
    let own: Map<_, _> = people
        .iter()
        .map(|(uid, own)| ((*uid).to_owned(), own.clone()))
        .collect();
    let request = json!({"campaignId": id, "userIds": uids, "userVariables": own});
    shop.call("AddCampaignRecipients", request).await.data();
    id
}

/// What is wrong with one recipient: the uid, the position, the path, the rule and what was received.
fn problem(uid: &str, position: usize, path: &str, rule: &str) -> Value {
    json!({"uid": uid, "position": position, "problems": {path: rule}})
}

/// A preflight finds these problems, leaves out those who have them and nobody else, and says how it looks for the others.
/// The same is told of each of them alone.
async fn finds(shop: &Shop<'_>, id: &Value, problems: &[Value], reached: &[&str]) {
    let found = ask(shop, "PreflightCampaign", id).await;
    let data = found.data();
    assert_eq!(data["problems"], json!(problems), "{found:#?}");
    let counts = (&data["total"], &data["reachable"]);
    let expected = (json!(problems.len() + reached.len()), json!(reached.len()));
    assert_eq!(counts, (&expected.0, &expected.1), "{found:#?}");
    let left_out = json!([{"reason": "invalid_variables", "count": problems.len()}]);
    assert_eq!(data["exclusions"], left_out, "{found:#?}");
    for way in data["channels"].as_array().unwrap() {
        assert_eq!(way["deliveries"], json!(reached.len()), "{found:#?}");
    }
    let samples = data["samples"].as_array().unwrap().iter();
    let shown: Vec<_> = samples.map(|sample| sample["uid"].as_str().unwrap()).collect();
    let first: Vec<_> = reached.iter().copied().take(SAMPLES_MAX).collect();
    assert_eq!(shown, first);
    for problem in problems {
        let request = json!({"campaignId": id, "uid": problem["uid"]});
        let explained = shop.call("GetCampaignRecipient", request).await;
        let check = explained.data()["checks"].as_array().unwrap().last().unwrap();
        assert_eq!(check["name"], "variables_valid", "{explained:#?}");
        assert_eq!(check["result"], "failed", "{explained:#?}");
        assert_eq!(check["problems"], problem["problems"], "{explained:#?}");
    }
}

/// Once it was sent, the campaign has failed those with problems and has reached the others.
async fn ended(shop: &Shop<'_>, id: &Value, problems: &[Value], reached: &[&str]) {
    let failed: Vec<_> = problems.iter().map(|one| one["uid"].as_str().unwrap()).collect();
    assert_eq!(status(shop, id).await, "partially_failed");
    assert_eq!(summary(shop, id).await, json!([0, 0, reached.len(), failed.len(), 0]));
    assert_eq!(with_status(shop, id, "failed").await, failed);
    assert_eq!(with_status(shop, id, "completed").await, reached);
    for uid in failed {
        assert_eq!(shop.unread(uid).await, 0, "{uid}");
    }
    for uid in reached {
        assert_eq!(shop.unread(uid).await, 1, "{uid}");
    }
}

everywhere! {
    async fn a_value_of_another_type_than_its_variable_is_found_before_it_fails_its_recipient(world) {
        let shop = Shop::open(&world).await;
        let body = json!([
            {"id": "text", "type": "text", "content": "Your code is {{code}}. {{more}}"},
            {"id": "hero", "type": "image", "url": "{{hero}}"},
        ]);
        let schema = json!([{"key": "code", "required": true}, {"key": "hero", "type": "image"}]);
        let image = json!({"url": "https://a.example/b.png", "width": 1, "height": 1});
        let action = json!({"type": "custom", "data": "x"});
        let people = [
            ("ada", json!({"code": "1", "hero": image})),
            ("bob", json!({"code": "2", "hero": "https://a.example/b.png"})),
            ("cyd", json!({"code": image})),
            ("dan", json!({"code": "4", "hero": action})),
            ("eve", json!({"code": "5", "more": action})),
            ("fay", json!({"code": "6", "more": "x"})),
        ];
        let id = prepare(&shop, (json!([in_app(&body)]), schema), &people).await;
        let of = |wanted: &str, received: &str| {
            format!("must be of type {wanted}, as the template declares it, received {received:?}")
        };
        let undeclared = "must be of type string, because the template does not declare it, received \"action\"";
        let problems = [
            problem("bob", 2, "variables.hero", &of("image", "string")),
            problem("cyd", 3, "variables.code", &of("string", "image")),
            problem("dan", 4, "variables.hero", &of("image", "action")),
            problem("eve", 5, "variables.more", undeclared),
        ];
        finds(&shop, &id, &problems, &["ada", "fay"]).await;
        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        ended(&shop, &id, &problems, &["ada", "fay"]).await;
    }

    async fn a_url_that_a_value_breaks_is_found_before_it_fails_its_recipient(world) {
        let shop = Shop::open(&world).await;
        let body = json!([
            {"id": "whole", "type": "image", "url": "{{picture}}"},
            {"id": "part", "type": "image", "url": "https://{{host}}/logo.png"},
        ]);
        let people = [
            ("ada", json!({"picture": "https://a.example/b.png", "host": "a.example"})),
            ("bob", json!({"picture": "javascript:alert(1)", "host": "a.example"})),
            ("cyd", json!({"picture": "https://a.example/b.png", "host": ""})),
            ("dan", json!({"host": "x".repeat(2_048)})),
            // A variable that nobody asks for stays as it is written.
            ("eve", json!({"host": "b.example"})),
        ];
        let id = prepare(&shop, (json!([in_app(&body)]), json!([])), &people).await;
        let long = format!("{NO_URL}, received \"https://{}…\"", "x".repeat(92));
        let problems = [
            problem("bob", 2, "variables.picture", &format!("{NO_URL}, received \"javascript:alert(1)\"")),
            problem("cyd", 3, "variables.host", &format!("{NO_URL}, received \"https:///logo.png\"")),
            problem("dan", 4, "variables.host", &long),
        ];
        finds(&shop, &id, &problems, &["ada", "eve"]).await;
        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        ended(&shop, &id, &problems, &["ada", "eve"]).await;
    }

    async fn a_card_that_values_make_too_large_is_found_before_it_fails_its_recipient(world) {
        let shop = Shop::open(&world).await;
        // Seventeen values of 4 KiB are more than 64 KiB.
        let body = json!([{"id": "text", "type": "text", "content": "{{text}}".repeat(17)}]);
        let people = [
            ("ada", json!({"text": "x".repeat(3_800)})),
            ("bob", json!({"text": "x".repeat(4_096)})),
            // In JSON each of them takes two bytes.
            ("cyd", json!({"text": "\"".repeat(2_000)})),
            ("dan", json!({"text": "x".repeat(2_000)})),
        ];
        let id = prepare(&shop, (json!([in_app(&body)]), json!([{"key": "text"}])), &people).await;
        let rule = "must not make the content larger than 65536 bytes";
        let problems = [problem("bob", 2, "variables", rule), problem("cyd", 3, "variables", rule)];
        finds(&shop, &id, &problems, &["ada", "dan"]).await;
        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        ended(&shop, &id, &problems, &["ada", "dan"]).await;
    }

    async fn a_push_notification_that_values_make_too_large_never_comes_to_a_driver(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        let phones = json!({"type": "push", "name": "phones", "channelId": "phones", "enabled": true});
        shop.call("CreateChannel", json!({"channel": phones})).await.data();
        let least = json!({"title": "Hello", "body": ""}).to_string().len();
        let room = PUSH_BYTES - least;
        let people = [
            ("ada", json!({"text": "x".repeat(room)})),
            ("bob", json!({"text": "x".repeat(room + 1)})),
            ("cyd", json!({"text": "x".repeat(4_096)})),
            // In JSON each of them takes two bytes.
            ("dan", json!({"text": "\n".repeat(2_048)})),
            ("eve", json!({"other": "x".repeat(4_096)})),
        ];
        let body = json!([{"id": "text", "type": "text", "content": "Hello"}]);
        let push = json!({"channelType": "push", "content": {"title": "Hello", "body": "{{text}}"}});
        let id = prepare(&shop, (json!([in_app(&body), push]), json!([{"key": "text"}])), &people).await;
        let too_large = |bytes: usize| {
            let rule = "must not make the push notification larger than 4096 bytes as compact JSON";
            format!("{rule}, received \"{bytes}\"")
        };
        let problems = [
            problem("bob", 2, "variables", &too_large(PUSH_BYTES + 1)),
            problem("cyd", 3, "variables", &too_large(PUSH_BYTES + least)),
            problem("dan", 4, "variables", &too_large(PUSH_BYTES + least)),
        ];
        finds(&shop, &id, &problems, &["ada", "eve"]).await;
        let request = json!({"templateId": "exacting", "variables": people[1].1});
        let preview = shop.call("PreviewTemplate", request).await;
        assert_eq!(preview.data()["sendable"], false, "{preview:#?}");
        assert_eq!(preview.data()["problems"][0]["kind"], "too_large", "{preview:#?}");

        ask(&shop, "SendCampaign", &id).await.data();
        settle(&world).await;
        ended(&shop, &id, &problems, &["ada", "eve"]).await;
        assert_eq!(taken(&stub), ["ada", "eve"]);
        let sizes = stub.taken().into_iter().map(|envelope| Value::Object(envelope.content).to_string().len());
        assert_eq!(sizes.max(), Some(PUSH_BYTES));
    }

    async fn problems_beyond_those_that_are_named_are_counted_all_the_same(world) {
        let shop = Shop::open(&world).await;
        let keys: Vec<_> = (0..PROBLEMS_OF_ONE_MAX + 5).map(|number| format!("key_{number:02}")).collect();
        let schema: Vec<_> = keys.iter().map(|key| json!({"key": key, "required": true})).collect();
        shop.template("exacting", json!({"variableSchema": schema})).await;
        let id = draft(&shop, json!({"templateId": "exacting"})).await;
        let uids = uids(PROBLEMS_MAX + 10);
        let whole: Map<_, _> = keys.iter().map(|key| (key.clone(), json!("1"))).collect();
        let mut lacking = whole.clone();
        lacking.remove("key_07");
        // The first and the last lack nothing, the one before it lacks one value of its own, and all others lack all.
        let (first, late, last) = (&uids[0], &uids[PROBLEMS_MAX + 8], &uids[PROBLEMS_MAX + 9]);
        let mut own = Map::new();
        for (uid, values) in [(first, &whole), (late, &lacking), (last, &whole)] {
            own.insert(uid.clone(), Value::Object(values.clone()));
        }
        let people = json!({"campaignId": id, "userIds": uids, "userVariables": own});
        shop.call("AddCampaignRecipients", people).await.data();

        let found = ask(&shop, "PreflightCampaign", &id).await;
        let (data, left_out) = (found.data(), PROBLEMS_MAX + 8);
        assert_eq!((&data["total"], &data["reachable"]), (&json!(uids.len()), &json!(2)));
        assert_eq!(data["exclusions"], json!([{"reason": "invalid_variables", "count": left_out}]));
        assert_eq!(data["channels"], json!([{"channelType": "in_app", "deliveries": 2}]));
        let named = keys.iter().take(PROBLEMS_OF_ONE_MAX);
        let named: Map<_, _> = named.map(|key| (format!("variables.{key}"), json!("is required by the template"))).collect();
        let problems = (1..=PROBLEMS_MAX).map(|index| json!({"uid": uids[index], "position": index + 1, "problems": named}));
        assert_eq!(data["problems"], problems.collect::<Value>());

        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        assert_eq!(status(&shop, &id).await, "partially_failed");
        assert_eq!(summary(&shop, &id).await, json!([0, 0, 2, left_out, 0]));
        assert_eq!(with_status(&shop, &id, "completed").await, [first.as_str(), last.as_str()]);
        assert_eq!(shop.all_unread(&uids[..2]).await, [1, 0]);
        assert_eq!(shop.all_unread(&uids[PROBLEMS_MAX + 8..]).await, [0, 1]);
    }
}
