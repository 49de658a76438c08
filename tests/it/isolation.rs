//! Who is kept out: every rpc of the contract against everybody who may not call it, and against the entities of another
//! app. The rpcs come from the descriptor, so a new one is walked too, and fails here until it is told what to send.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::everywhere;
use crate::support::database::Backend;
use crate::support::rpc::{Answer, Rpc};
use crate::support::world::{Caller, Tenant, World};

/// How long a revoked key may still be let in.
const REVOCATION_TIME_MAX: Duration = Duration::from_secs(5);

/// One entity of every kind in an app, by the field that requests name it with.
pub(crate) type Entities = BTreeMap<&'static str, Value>;

pub(crate) async fn furnish(world: &World, shop: &Tenant) -> Entities {
    for uid in ["ada", "bob"] {
        let user = json!({"user": {"uid": uid, "name": uid}});
        world.call("CreateUser", &shop.caller, user).await.data();
    }
    let make = async |rpc: &str, request: Value| world.call(rpc, &shop.caller, request).await.data().clone();
    let (key, _) = world.key(&shop.id, "authOnly").await;
    let channel = json!({"channelId": "in-app", "type": "in_app", "name": "In-app", "enabled": true});
    let channel = make("CreateChannel", json!({"channel": channel})).await;
    let category = make("CreateCategory", json!({"category": {"name": "Orders"}})).await;
    let sms = json!({"channelType": "sms", "content": {"body": "Sent"}});
    let template = json!({"templateId": "order", "name": "Order", "channels": [{"channelType": "in_app"}, sms]});
    let template = make("CreateTemplate", json!({"template": template})).await;
    make(
        "UpdateTemplate",
        json!({"templateId": "order", "template": {"status": "approved"}}),
    )
    .await;
    let sent = make("SendNotification", json!({"templateId": "order", "receivers": ["ada"]})).await;
    let feed = make("ListFeedItems", json!({"receiver": "ada"})).await;
    let mut entities = furnish_campaigns(world, shop).await;
    entities.extend([
        ("app_id", json!(shop.id)),
        ("api_key_id", json!(key)),
        ("uid", json!("ada")),
        ("uids_to_deactivate", json!(["ada"])),
        ("uids_to_activate", json!(["ada"])),
        ("channel_id", channel["id"].clone()),
        ("category_id", category["id"].clone()),
        ("template_id", template["id"].clone()),
        ("channel_type", json!("sms")),
        ("notification_id", sent["notificationId"].clone()),
        ("feed_item_id", feed[0]["id"].clone()),
        ("ids", json!([feed[0]["id"]])),
        ("receivers", json!(["ada"])),
        // Somebody of this uid is in every app of these tests, so this names no entity of one of them.
        ("receiver", json!("bob")),
        ("user_ids", json!(["ada"])),
        ("scheduled_at", json!("2024-01-15T18:00:00.000Z")),
    ]);
    entities
}

/// A campaign for each rpc that asks for one of a certain status, and one for all the others.
async fn furnish_campaigns(world: &World, shop: &Tenant) -> Entities {
    let make = async |steps: &[&str]| {
        let campaign = json!({"campaign": {"name": "Sale", "templateId": "order"}});
        let made = world.call("CreateCampaign", &shop.caller, campaign).await;
        let id = made.data()["id"].clone();
        let mut request = json!({"campaignId": id, "userIds": ["ada"]});
        world
            .call("AddCampaignRecipients", &shop.caller, request.clone())
            .await
            .data();
        for step in steps {
            request = json!({"campaignId": id});
            if *step == "ScheduleCampaign" {
                request["scheduledAt"] = json!("2024-01-15T18:00:00.000Z");
            }
            world.call(step, &shop.caller, request).await.data();
        }
        id
    };
    let (imported, importing, cancelled) = (make(&[]).await, make(&[]).await, make(&[]).await);
    let key = upload(world, shop, &importing).await;
    let streaming = make(&[]).await;
    let request = json!({"campaignId": streaming});
    let given = world.call("CreateCampaignUploadUrl", &shop.caller, request).await;
    for campaign in [&imported, &cancelled] {
        let request = json!({"campaignId": campaign, "s3Key": upload(world, shop, campaign).await});
        world.call("ImportCampaignCsv", &shop.caller, request).await.data();
    }
    BTreeMap::from([
        ("s3_key", key),
        ("campaign_id@GetCampaignUpload", importing.clone()),
        ("campaign_id@ImportRecipients", streaming),
        ("s3_key@ImportRecipients", given.data()["s3Key"].clone()),
        ("offset", json!(0)),
        ("data", json!("dXNlcl9pZAphZGEK")),
        ("campaign_id@ImportCampaignCsv", importing),
        ("campaign_id@GetCampaignImportStatus", imported.clone()),
        ("campaign_id@ListCampaignImportErrors", imported),
        ("campaign_id@CancelCampaignImport", cancelled),
        ("campaign_id", make(&[]).await),
        ("campaign_id@SendCampaign", make(&[]).await),
        ("campaign_id@ScheduleCampaign", make(&[]).await),
        ("campaign_id@UnscheduleCampaign", make(&["ScheduleCampaign"]).await),
        ("campaign_id@PauseCampaign", make(&["SendCampaign"]).await),
        (
            "campaign_id@ResumeCampaign",
            make(&["SendCampaign", "PauseCampaign"]).await,
        ),
        ("campaign_id@CancelCampaign", make(&["SendCampaign"]).await),
        // One that has ended, because the stream ends with it.
        ("campaign_id@WatchCampaign", make(&["CancelCampaign"]).await),
    ])
}

/// Uploads a file for a campaign, and gives its key.
async fn upload(world: &World, shop: &Tenant, campaign: &Value) -> Value {
    let request = json!({"campaignId": campaign});
    let given = world.call("CreateCampaignUploadUrl", &shop.caller, request).await;
    let sent = reqwest::Client::new()
        .put(given.data()["url"].as_str().unwrap())
        .body("user_id\nada\n");
    assert_eq!(sent.send().await.unwrap().status(), 200);
    given.data()["s3Key"].clone()
}

/// What to create, by the name of the message.
fn newcomer(message: &str, entities: &Entities) -> Value {
    match message {
        "App" => json!({"id": "newcomer", "name": "Newcomer"}),
        "ApiKey" => json!({"name": "Newcomer", "scope": "authOnly"}),
        "User" => json!({"uid": "newcomer", "name": "Newcomer"}),
        "Channel" => json!({"channelId": "newcomer", "type": "in_app", "name": "Newcomer", "enabled": false}),
        "Category" => json!({"name": "Newcomer"}),
        "Campaign" => json!({"name": "Newcomer", "templateId": entities["template_id"]}),
        "Template" => json!({"templateId": "newcomer", "name": "Newcomer", "channels": [{"channelType": "in_app"}]}),
        other => unreachable!("tell this test how to create a {other}"),
    }
}

/// What to change about something, by the name of the message.
fn changed(message: &str) -> Value {
    match message {
        "TemplateChannel" => json!({"dataType": "ui_template", "content": {"body": "Changed"}}),
        _ => json!({"name": "Changed"}),
    }
}

/// A request that would do something to these entities if the caller were let in, and whether it names any of them.
pub(crate) fn request(rpc: &Rpc, entities: &Entities) -> (Value, bool) {
    let input = rpc.method.input();
    if rpc.takes_stream() {
        return (messages(rpc, entities), true);
    }
    let mut fields = Map::new();
    let mut names_entity = false;
    let in_path = rpc.path_fields();
    for field in input.fields() {
        let name = field.name();
        let of_body = rpc.body() == "*";
        if name == rpc.body() {
            let kind = field.kind();
            let message = kind.as_message().unwrap();
            let changes = input.get_field_by_name("update_mask").is_some();
            let body = if changes {
                changed(message.name())
            } else {
                newcomer(message.name(), entities)
            };
            // What it is made of is an entity, too.
            names_entity |= message.name() == "Campaign" && !changes;
            fields.insert(field.json_name().to_owned(), body);
        } else if in_path.contains(&name.to_owned())
            || ["receiver", "s3_key"].contains(&name)
            || (of_body && entities.contains_key(name))
        {
            names_entity |= name.ends_with("_id") || name == "uid";
            fields.insert(field.json_name().to_owned(), entity(rpc, name, entities).clone());
        }
    }
    (Value::Object(fields), names_entity)
}

/// What a field of a request names.
fn entity<'e>(rpc: &Rpc, name: &str, entities: &'e Entities) -> &'e Value {
    let own = format!("{name}@{}", rpc.name());
    let entity = entities.get(own.as_str()).or_else(|| entities.get(name));
    entity.unwrap_or_else(|| unreachable!("tell this test what {name} is in {}", rpc.name()))
}

/// A stream with one message of each kind, in their order.
fn messages(rpc: &Rpc, entities: &Entities) -> Value {
    let kinds = rpc.method.input().fields().collect::<Vec<_>>();
    let messages = kinds.iter().map(|kind| {
        let content = kind.kind();
        let needed = content
            .as_message()
            .unwrap()
            .fields()
            .filter(|field| !field.supports_presence());
        let fields = needed.map(|field| {
            (
                field.json_name().to_owned(),
                entity(rpc, field.name(), entities).clone(),
            )
        });
        json!({kind.json_name(): fields.collect::<Map<_, _>>()})
    });
    json!({"stream": messages.collect::<Vec<_>>()})
}

/// The same caller, acting for a user where the rpc insists on it.
pub(crate) fn acting(rpc: &Rpc, caller: &Caller, uid: &str) -> Caller {
    if rpc.on_behalf_of() == "ON_BEHALF_OF_REQUIRED" {
        caller.on_behalf_of(uid)
    } else {
        caller.clone()
    }
}

/// The rpcs to walk.
fn rpcs() -> Vec<Rpc> {
    let rpcs = Rpc::all();
    assert!(rpcs.len() > 30, "the descriptor holds only {} rpcs", rpcs.len());
    for rpc in &rpcs {
        assert!(!rpc.callers().is_empty(), "{} has no rule", rpc.name());
    }
    rpcs
}

fn lets_in(rpc: &Rpc, caller: &str) -> bool {
    rpc.callers()
        .iter()
        .any(|kind| kind == caller || kind == "CALLER_KIND_PUBLIC")
}

#[track_caller]
fn refused(rpc: &Rpc, who: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.code()),
        (status, code),
        "{} by {who}: {answer:#?}",
        rpc.name()
    );
}

/// Every row of the database that mentions one of these texts, or simply every row.
pub(crate) async fn rows(world: &World, mentions: Option<&[String]>) -> Vec<String> {
    let url = world.database().url.clone();
    let mut rows = match world.database().backend {
        Backend::Sqlite => sqlite_rows(&url).await,
        Backend::Postgres => postgres_rows(&url).await,
    };
    if let Some(texts) = mentions {
        rows.retain(|row| texts.iter().any(|text| row.contains(text.as_str())));
    }
    assert!(!rows.is_empty());
    rows
}

async fn sqlite_rows(url: &str) -> Vec<String> {
    let mut db = SqliteConnection::connect(url).await.unwrap();
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let columns = AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns: Vec<String> = sqlx::query_scalar(columns).fetch_all(&mut db).await.unwrap();
        let columns: Vec<_> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
        let all = AssertSqlSafe(format!(
            "SELECT '{table}:' || {} FROM \"{table}\" ORDER BY 1",
            columns.join(" || ',' || ")
        ));
        rows.extend(sqlx::query_scalar::<_, String>(all).fetch_all(&mut db).await.unwrap());
    }
    rows
}

async fn postgres_rows(url: &str) -> Vec<String> {
    let mut db = PgConnection::connect(url).await.unwrap();
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let all = AssertSqlSafe(format!("SELECT '{table}:' || t::text FROM \"{table}\" t ORDER BY 1"));
        rows.extend(sqlx::query_scalar::<_, String>(all).fetch_all(&mut db).await.unwrap());
    }
    rows
}

/// The internal id of an app as each database prints it.
async fn printed_id(world: &World, shop: &Tenant) -> Vec<String> {
    let operator = world.service.as_operator();
    let app = campanile::domain::app::get(&world.service, &operator, &shop.id.parse().unwrap())
        .await
        .unwrap();
    let uuid = app.id.uuid();
    vec![uuid.to_string(), uuid.simple().to_string().to_uppercase()]
}

everywhere! {
    async fn whoever_has_no_right_to_an_rpc_is_refused_and_changes_nothing(world) {
        let shop = world.tenant("shop").await;
        let entities = furnish(&world, &shop).await;
        let (_, lesser) = world.key("shop", "authOnly").await;
        let (revoked_id, revoked) = world.key("shop", "fullAccess").await;
        let revoke = json!({"appId": "shop", "apiKeyId": revoked_id});
        world.call("RevokeApiKey", &Caller::operator(), revoke).await.data();
        let unknown = Caller::key(&"0".repeat(64));
        let before = rows(&world, None).await;
        for rpc in rpcs() {
            let (request, _) = request(&rpc, &entities);
            let by = async |caller: &Caller| world.call(rpc.name(), &acting(&rpc, caller, "ada"), request.clone()).await;
            if !lets_in(&rpc, "CALLER_KIND_PUBLIC") {
                refused(&rpc, "nobody", &by(&Caller::nobody()).await, 401, "ERR_UNAUTHORIZED");
                refused(&rpc, "an unknown key", &by(&unknown).await, 401, "ERR_UNAUTHORIZED");
                refused(&rpc, "a revoked key", &by(&revoked).await, 401, "ERR_UNAUTHORIZED");
            }
            for (caller, kind) in [
                (&lesser, "CALLER_KIND_AUTH_ONLY"),
                (&shop.caller, "CALLER_KIND_FULL_ACCESS"),
                (&Caller::operator(), "CALLER_KIND_OPERATOR"),
            ] {
                if !lets_in(&rpc, kind) {
                    refused(&rpc, kind, &by(caller).await, 403, "ERR_FORBIDDEN");
                }
            }
        }
        assert_eq!(rows(&world, None).await, before);
    }

    async fn an_entity_of_another_app_does_not_exist_and_nothing_of_it_changes(world) {
        let (shop, club) = (world.tenant("shop").await, world.tenant("club").await);
        let entities = furnish(&world, &shop).await;
        let bob = json!({"user": {"uid": "bob", "name": "Bob"}});
        world.call("CreateUser", &club.caller, bob).await.data();
        let mine = printed_id(&world, &shop).await;
        let before = rows(&world, Some(&mine)).await;
        for rpc in rpcs().iter().filter(|rpc| lets_in(rpc, "CALLER_KIND_FULL_ACCESS")) {
            let (request, names_entity) = request(rpc, &entities);
            let answer = world.call(rpc.name(), &acting(rpc, &club.caller, "bob"), request).await;
            if names_entity {
                assert_eq!(answer.status, 404, "{}: {answer:#?}", rpc.name());
                let noun = answer.code().strip_prefix("ERR_").and_then(|code| code.strip_suffix("_NOT_FOUND"));
                assert!(noun.is_some(), "{}: {answer:#?}", rpc.name());
            } else {
                assert!(answer.status < 300, "{}: {answer:#?}", rpc.name());
                let body = answer.body.to_string();
                for (field, entity) in entities.iter().filter(|(field, _)| field.contains("_id")) {
                    assert!(!body.contains(&entity.to_string()), "{} shows {field}: {body}", rpc.name());
                }
            }
        }
        assert_eq!(rows(&world, Some(&mine)).await, before);
    }

    async fn the_same_requests_succeed_for_whoever_has_the_right(world) {
        let shop = world.tenant("shop").await;
        let entities = furnish(&world, &shop).await;
        // What ends something comes last.
        let mut rpcs = rpcs();
        rpcs.sort_by_key(|rpc| ["Archive", "Delete", "Remove"].iter().any(|verb| rpc.name().starts_with(verb)));
        for rpc in rpcs {
            let (request, _) = request(&rpc, &entities);
            let caller = if lets_in(&rpc, "CALLER_KIND_FULL_ACCESS") { shop.caller.clone() } else { Caller::operator() };
            let answer = world.call(rpc.name(), &acting(&rpc, &caller, "ada"), request).await;
            assert!(answer.status < 300, "{}: {answer:#?}", rpc.name());
        }
    }

    async fn naming_another_app_with_a_key_is_unauthorized(world) {
        let (shop, club) = (world.tenant("shop").await, world.tenant("club").await);
        let entities = furnish(&world, &shop).await;
        let before = rows(&world, None).await;
        let named: Vec<_> = rpcs()
            .into_iter()
            .filter(|rpc| lets_in(rpc, "CALLER_KIND_FULL_ACCESS") && rpc.method.input().get_field_by_name("app_id").is_some())
            .collect();
        assert_eq!(named.len(), 5);
        for rpc in named {
            let (mut request, _) = request(&rpc, &entities);
            for app in ["shop", "nowhere"] {
                request["appId"] = json!(app);
                let answer = world.call(rpc.name(), &club.caller, request.clone()).await;
                refused(&rpc, "the key of another app", &answer, 401, "ERR_UNAUTHORIZED");
            }
        }
        assert_eq!(rows(&world, None).await, before);
    }

    async fn a_revoked_key_is_kept_out_within_five_seconds(world) {
        let shop = world.tenant("shop").await;
        let (id, caller) = world.key("shop", "fullAccess").await;
        assert_eq!(world.call("ListUsers", &caller, json!({})).await.status, 200);
        world.call("RevokeApiKey", &shop.caller, json!({"apiKeyId": id})).await.data();
        let revoked_at = Instant::now();
        let mut answer = world.call("ListUsers", &caller, json!({})).await;
        while answer.status == 200 && revoked_at.elapsed() < REVOCATION_TIME_MAX {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = world.call("ListUsers", &caller, json!({})).await;
        }
        assert_eq!((answer.status, answer.code()), (401, "ERR_UNAUTHORIZED"));
        assert_eq!(world.call("ListUsers", &shop.caller, json!({})).await.status, 200);
    }
}
