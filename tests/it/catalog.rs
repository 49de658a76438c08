//! What sends ask of the catalog directly, and what happens when several nodes change it at once. What callers see of
//! channels, categories and templates is in `channel.rs`, `category.rs` and `template.rs`.

use std::collections::BTreeSet;

use campanile::domain::{Acting, Cards, Service, Settings, app, category, channel, identity, template};
use campanile::model::category::{CategoryPatch, NewCategory};
use campanile::model::channel::{Channel, ChannelLimit, ChannelPatch, ChannelType, NewChannel};
use campanile::model::id::{AppId, TemplateId};
use campanile::model::slug::Reference;
use campanile::model::template::sequence::Step;
use campanile::model::template::{
    DataType, NewTemplate, RequestedChannel, Sendable, Template, TemplateChannel, TemplatePatch, TemplateStatus,
};
use campanile::model::{Caller, Clock, Reason, Result, Timestamp};
use campanile::store::Store;
use futures::future::join_all;
use serde_json::Value;

use crate::on_both;
use crate::support::database::TestDatabase;

/// A refusal as both doors tell it: over gRPC paths begin with the request's field that holds the resource, over REST
/// the resource is the body.
pub(crate) fn at_root(resource: &str, refusal: &Value) -> Value {
    let prefix = format!("{resource}.");
    let field = |(name, value): (&String, &Value)| {
        let name = name.strip_prefix(&prefix).unwrap_or(name).to_owned();
        let value = match (name.as_str(), value) {
            ("devMessage", Value::String(text)) => Value::from(text.replace(&prefix, "")),
            (_, value) => at_root(resource, value),
        };
        (name, value)
    };
    match refusal {
        Value::Object(fields) => Value::Object(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

fn noon() -> Timestamp {
    Timestamp::from_millis(1_705_320_000_000).unwrap()
}

async fn node(db: &TestDatabase) -> Service {
    let settings = Settings {
        clock: Clock::fixed(noon()),
        ..Settings::new(db.settings())
    };
    Service::open(settings).await.unwrap()
}

/// An app with a key, and somebody who presents it.
async fn an_app(service: &Service) -> (AppId, Acting) {
    let secret: campanile::model::app::KeySecret = "k".repeat(40).parse().unwrap();
    app::ensure_bootstrap(service, "demo".parse().unwrap(), secret.clone())
        .await
        .unwrap();
    let facts = identity::find_key(service, secret.digest()).await.unwrap().unwrap();
    let caller = Caller::App {
        app: facts.app,
        key: facts.key,
        scope: facts.scope,
    };
    (facts.app, Acting::new(caller, None, noon()))
}

fn new_channel(name: &str, channel_type: ChannelType) -> NewChannel {
    NewChannel {
        slug: None,
        channel_type,
        name: name.parse().unwrap(),
        enabled: true,
        metadata: None,
    }
}

fn content(channel_type: ChannelType, through: Option<&str>) -> RequestedChannel {
    TemplateChannel {
        channel_type,
        channel_id: through.map(Reference::from),
        content: None,
        data_type: DataType::UiTemplate,
        category_filter_enabled: true,
        template_label_enabled: true,
        message_retention_hours: 0,
        step: Step::default(),
    }
}

fn new_template(name: &str, status: TemplateStatus) -> NewTemplate {
    NewTemplate {
        slug: None,
        name: name.parse().unwrap(),
        category: None,
        label: Some("Orders".to_owned()),
        alternative_text: None,
        tags: vec!["shop".to_owned()],
        status,
        channels: vec![content(ChannelType::InApp, None)],
        variable_schema: Vec::new(),
        config: None,
    }
}

async fn create_channel(service: &Service, acting: &Acting, new: NewChannel) -> Channel {
    channel::create(service, acting, new).await.unwrap().value
}

async fn create_template(service: &Service, acting: &Acting, new: NewTemplate) -> Template {
    template::create(service, acting, new).await.unwrap().value
}

async fn change(service: &Service, acting: &Acting, id: TemplateId, patch: TemplatePatch) -> Template {
    let changed = template::update(service, acting, Reference::Id(id), patch, None).await;
    changed.unwrap().value
}

fn to_status(status: TemplateStatus) -> TemplatePatch {
    TemplatePatch {
        status: Some(status),
        ..TemplatePatch::default()
    }
}

fn to_email(subject: &str) -> TemplatePatch {
    let mut email = content(ChannelType::Email, None);
    email.content = serde_json::json!({ "subject": subject, "text": "Hello" })
        .as_object()
        .cloned();
    TemplatePatch {
        channels: Some(vec![email]),
        ..TemplatePatch::default()
    }
}

/// What a send does first, in a transaction of its own.
async fn load(db: &TestDatabase, app: AppId, template: &str, version: Option<u32>) -> Result<Sendable> {
    let store: Store = db.open().await;
    let template: Reference<TemplateId> = Reference::from(template);
    let loaded = store
        .write(move |tx| {
            let named = (template.clone(), version);
            Box::pin(async move {
                let cards = Cards::default();
                let templates = template::load_for_sends(tx, app, &cards, std::slice::from_ref(&named)).await?;
                let ready = templates.get(&named.0, named.1)?;
                template::record_uses(tx, app, [ready].into_iter(), noon()).await?;
                Ok(Sendable::clone(&ready.template))
            })
        })
        .await;
    store.close().await;
    loaded
}

on_both! {
    async fn calls_at_once_never_make_a_second_push_channel(db) {
        let nodes = [node(&db).await, node(&db).await];
        let (_, acting) = an_app(&nodes[0]).await;
        let calls = (0..12).map(|number| {
            let new = new_channel(&format!("Push {number}"), ChannelType::Push);
            channel::create(&nodes[number % 2], &acting, new)
        });
        let (made, refused): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (1, 11));
        for refusal in refused {
            let error = refusal.unwrap_err();
            assert_eq!(error.reason(), Reason::Conflict, "{error}");
            assert_eq!(error.metadata(), [("limit", "1".to_owned())]);
        }
        let rows = channel::availability(&nodes[1], &acting).await.unwrap();
        let used: Vec<_> = rows.iter().map(|row| (row.channel_type.to_string(), row.used)).collect();
        assert_eq!(used[..2], [("in_app".to_owned(), 0), ("push".to_owned(), 1)]);
    }

    async fn calls_at_once_never_pass_a_limit_that_was_provisioned(db) {
        let provisioned = async || {
            let mut settings = Settings { clock: Clock::fixed(noon()), ..Settings::new(db.settings()) };
            settings.channel_limits = "sms=3,email".parse().unwrap();
            Service::open(settings).await.unwrap()
        };
        let nodes = [provisioned().await, provisioned().await];
        let (_, acting) = an_app(&nodes[0]).await;
        let create = |number: usize, channel_type| {
            channel::create(&nodes[number % 2], &acting, new_channel(&format!("Way {number}"), channel_type))
        };
        let sms = join_all((0..10).map(|number| create(number, ChannelType::Sms))).await;
        let (made, refused): (Vec<_>, Vec<_>) = sms.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (3, 7));
        for refusal in refused {
            let error = refusal.unwrap_err();
            assert_eq!((error.reason(), error.metadata().to_vec()), (Reason::Conflict, vec![("limit", "3".to_owned())]));
        }
        assert!(join_all((0..10).map(|number| create(number, ChannelType::Email))).await.iter().all(Result::is_ok));
        let rows = channel::availability(&nodes[1], &acting).await.unwrap();
        let used: Vec<_> = rows.iter().map(|row| (row.channel_type.to_string(), row.used)).collect();
        assert_eq!(used[2..4], [("sms".to_owned(), 3), ("email".to_owned(), 10)]);
    }

    async fn channels_of_a_type_that_was_taken_away_stay_and_go_on(db) {
        let before = node(&db).await;
        let (_, acting) = an_app(&before).await;
        let phones = create_channel(&before, &acting, new_channel("Phones", ChannelType::Push)).await;
        before.close().await;

        let mut settings = Settings { clock: Clock::fixed(noon()), ..Settings::new(db.settings()) };
        settings.channel_limits = "push=0".parse().unwrap();
        let after = Service::open(settings).await.unwrap();
        let row = channel::availability(&after, &acting).await.unwrap()[1];
        assert_eq!((row.channel_type, row.limit, row.used), (ChannelType::Push, ChannelLimit::AtMost(0), 1));
        let refused = channel::create(&after, &acting, new_channel("Tablets", ChannelType::Push)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::Forbidden);
        let patch = ChannelPatch { enabled: Some(false), ..ChannelPatch::default() };
        let changed = channel::update(&after, &acting, Reference::Id(phones.id), patch, None).await.unwrap().value;
        assert_eq!((changed.id, changed.enabled), (phones.id, false));
    }

    async fn generated_slugs_of_calls_at_once_are_all_different(db) {
        let nodes = [node(&db).await, node(&db).await];
        let (_, acting) = an_app(&nodes[0]).await;
        let channels = (0..8).map(|number| {
            channel::create(&nodes[number % 2], &acting, new_channel("Shop bell", ChannelType::InApp))
        });
        let channels: BTreeSet<_> = join_all(channels).await.into_iter().map(|made| made.unwrap().value.slug).collect();
        let templates = (0..8).map(|number| {
            template::create(&nodes[number % 2], &acting, new_template("Order shipped", TemplateStatus::Draft))
        });
        let templates: BTreeSet<_> = join_all(templates).await.into_iter().map(|made| made.unwrap().value.slug).collect();
        let expected = |prefix: &str| -> BTreeSet<_> {
            let number = |number| if number == 1 { prefix.to_owned() } else { format!("{prefix}-{number}") };
            (1..=8).map(number).collect()
        };
        let texts = |slugs: BTreeSet<campanile::model::slug::Slug>| -> BTreeSet<String> { slugs.into_iter().map(Into::into).collect() };
        assert_eq!(texts(channels), expected("cc-notification-channel-shop-bell"));
        assert_eq!(texts(templates), expected("cc-template-order-shipped"));
    }

    async fn of_edits_at_once_with_one_etag_exactly_one_wins(db) {
        let nodes = [node(&db).await, node(&db).await];
        let (_, acting) = an_app(&nodes[0]).await;
        let made = create_template(&nodes[0], &acting, new_template("Order", TemplateStatus::Approved)).await;
        let edits = (0..10).map(|number| {
            let etag = Some(made.version.to_string());
            let subject = format!("Edit {number}");
            template::update(&nodes[number % 2], &acting, Reference::Id(made.id), to_email(&subject), etag)
        });
        let (won, lost): (Vec<_>, Vec<_>) = join_all(edits).await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 9));
        for refusal in lost {
            assert_eq!(refusal.unwrap_err().reason(), Reason::PreconditionFailed);
        }
        let (now, versions) = template::get(&nodes[1], &acting, &Reference::Id(made.id)).await.unwrap();
        assert_eq!(now, won.into_iter().next().unwrap().unwrap().value);
        assert_eq!(versions.iter().map(|version| version.number).collect::<Vec<_>>(), [2, 1]);
    }

    async fn edits_at_once_of_an_approved_template_open_one_version_each(db) {
        let nodes = [node(&db).await, node(&db).await];
        let (_, acting) = an_app(&nodes[0]).await;
        let made = create_template(&nodes[0], &acting, new_template("Order", TemplateStatus::Approved)).await;
        let subjects: Vec<_> = (0..10).map(|number| format!("Edit {number}")).collect();
        let edits = subjects.iter().enumerate().map(|(number, subject)| {
            template::update(&nodes[number % 2], &acting, Reference::Id(made.id), to_email(subject), None)
        });
        let numbers: BTreeSet<_> =
            join_all(edits).await.into_iter().map(|edit| edit.unwrap().value.current.number).collect();
        assert_eq!(numbers, (2..=11).collect());
        let (now, versions) = template::get(&nodes[0], &acting, &Reference::Id(made.id)).await.unwrap();
        assert_eq!((now.current.number, versions.len(), now.version.number()), (11, 11, 11));
        let held: BTreeSet<_> = versions.iter().take(10).map(|version| {
            version.content.channels[0].content.clone().unwrap()["subject"].as_str().unwrap().to_owned()
        }).collect();
        assert_eq!(held, subjects.into_iter().collect());
    }

    async fn a_category_never_goes_while_a_template_takes_it(db) {
        let nodes = [node(&db).await, node(&db).await];
        let (_, acting) = an_app(&nodes[0]).await;
        for round in 0..8 {
            let name = format!("Round {round}");
            let new = NewCategory { name: name.parse().unwrap(), description: None };
            let made = category::create(&nodes[0], &acting, new).await.unwrap().value;
            let used = NewTemplate { category: Some(name.clone()), ..new_template("Order", TemplateStatus::Draft) };
            let (deleted, taken) = futures::join!(
                category::delete(&nodes[0], &acting, made.id),
                template::create(&nodes[1], &acting, used),
            );
            match (deleted, taken) {
                (Ok(_), Err(error)) => assert_eq!(error.reason(), Reason::CategoryNotFound, "{error}"),
                (Err(error), Ok(template)) => {
                    assert_eq!(error.reason(), Reason::Conflict, "{error}");
                    let template = template.value;
                    assert_eq!(error.metadata(), [("inUseBy", template.id.to_string()), ("inUseCount", "1".to_owned())]);
                    let kept = category::get(&nodes[0], &acting, made.id).await.unwrap();
                    assert_eq!(Some(kept.name), template.category.map(|category| category.name));
                }
                (deleted, taken) => assert_ne!(deleted.is_ok(), taken.is_ok(), "{deleted:?} and {taken:?}"),
            }
        }
    }

    async fn two_categories_never_get_one_name(db) {
        let nodes = [node(&db).await, node(&db).await];
        let (_, acting) = an_app(&nodes[0]).await;
        let create = |name: &str| NewCategory { name: name.parse().unwrap(), description: None };
        let first = category::create(&nodes[0], &acting, create("First")).await.unwrap().value;
        let second = category::create(&nodes[0], &acting, create("Second")).await.unwrap().value;
        let rename = || CategoryPatch { name: Some("Wanted".parse().unwrap()), description: None };
        let (one, other, third) = futures::join!(
            category::update(&nodes[0], &acting, first.id, rename(), None),
            category::update(&nodes[1], &acting, second.id, rename(), None),
            category::create(&nodes[1], &acting, create("Wanted")),
        );
        let refused: Vec<_> = [one, other, third].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 2);
        for error in refused {
            assert_eq!(error.reason(), Reason::CategoryAlreadyExists, "{error}");
            assert_eq!(error.metadata(), [("name", "Wanted".to_owned())]);
        }
    }

    async fn a_send_loads_the_current_version_and_marks_it_used(db) {
        let service = node(&db).await;
        let (app, acting) = an_app(&service).await;
        let bell = create_channel(&service, &acting, new_channel("Bell", ChannelType::InApp)).await;
        let new = NewTemplate {
            category: Some("Transactional".to_owned()),
            ..new_template("Order", TemplateStatus::Approved)
        };
        let made = create_template(&service, &acting, new).await;
        for named in [made.id.to_string(), made.slug.to_string()] {
            let loaded = load(&db, app, &named, None).await.unwrap();
            assert_eq!((loaded.template_id, loaded.version_id, loaded.version), (made.id, made.current.id, 1));
            assert_eq!((&loaded.name, &loaded.category, &loaded.label), (&made.name, &made.category, &made.label));
            assert_eq!((&loaded.tags, loaded.variable_schema.len()), (&made.tags, 0));
            assert_eq!(loaded.channels.len(), 1);
            assert_eq!(loaded.channels[0].content, made.current.content.channels[0]);
            let instance = loaded.channels[0].instance.unwrap();
            assert_eq!((instance.id, instance.enabled), (bell.id, true));
        }
        let (_, versions) = template::get(&service, &acting, &Reference::Id(made.id)).await.unwrap();
        assert_eq!(versions[0].used_at, Some(noon()));
        // What was used stays as it was sent, even in a template that went back to draft.
        change(&service, &acting, made.id, to_status(TemplateStatus::Draft)).await;
        let edited = change(&service, &acting, made.id, to_email("New")).await;
        assert_eq!((edited.current.number, edited.current.approved_at), (2, None));
        let (_, versions) = template::get(&service, &acting, &Reference::Id(made.id)).await.unwrap();
        assert_eq!(versions[1].content, made.current.content);
    }

    async fn a_send_takes_only_what_is_approved(db) {
        let service = node(&db).await;
        let (app, acting) = an_app(&service).await;
        let made = create_template(&service, &acting, new_template("Order", TemplateStatus::Draft)).await;
        let id = made.id.to_string();
        let refused = |status: &str| vec![("templateId", id.clone()), ("status", status.to_owned())];
        let error = load(&db, app, &id, None).await.unwrap_err();
        assert_eq!((error.reason(), error.metadata().to_vec()), (Reason::TemplateNotApproved, refused("draft")));

        change(&service, &acting, made.id, to_status(TemplateStatus::Approved)).await;
        change(&service, &acting, made.id, to_email("Second")).await;
        assert_eq!(load(&db, app, &id, None).await.unwrap().version, 2);
        assert_eq!(load(&db, app, &id, Some(1)).await.unwrap().version, 1);
        for number in [0, 3, u32::MAX] {
            let error = load(&db, app, &id, Some(number)).await.unwrap_err();
            assert_eq!(error.reason(), Reason::BadRequest);
            assert_eq!(error.violations()[0].field, "templateVersion");
        }

        // A version that was opened in a draft is not approved by its elders.
        change(&service, &acting, made.id, to_status(TemplateStatus::Draft)).await;
        change(&service, &acting, made.id, to_email("Third")).await;
        for version in [None, Some(2), Some(3)] {
            assert_eq!(load(&db, app, &id, version).await.unwrap_err().reason(), Reason::TemplateNotApproved);
        }
        change(&service, &acting, made.id, to_status(TemplateStatus::Archived)).await;
        let error = load(&db, app, &id, None).await.unwrap_err();
        assert_eq!((error.reason(), error.metadata().to_vec()), (Reason::TemplateNotApproved, refused("archived")));
        let (_, versions) = template::get(&service, &acting, &Reference::Id(made.id)).await.unwrap();
        let used: Vec<_> = versions.iter().map(|version| (version.number, version.used_at.is_some())).collect();
        assert_eq!(used, [(3, false), (2, true), (1, true)]);

        for unknown in ["nobody", &TemplateId::new(noon()).to_string()] {
            let error = load(&db, app, unknown, None).await.unwrap_err();
            assert_eq!(error.reason(), Reason::TemplateNotFound);
            assert_eq!(error.metadata(), [("templateId", unknown.to_owned())]);
        }
    }

    async fn another_apps_template_does_not_exist_for_a_send(db) {
        let service = node(&db).await;
        let (_, acting) = an_app(&service).await;
        let made = create_template(&service, &acting, new_template("Order", TemplateStatus::Approved)).await;
        let other = AppId::new(noon());
        for named in [made.id.to_string(), made.slug.to_string()] {
            assert_eq!(load(&db, other, &named, None).await.unwrap_err().reason(), Reason::TemplateNotFound);
        }
        let (_, versions) = template::get(&service, &acting, &Reference::Id(made.id)).await.unwrap();
        assert_eq!(versions[0].used_at, None);
    }

    async fn a_send_goes_through_the_named_channel_or_the_oldest_that_is_on(db) {
        let service = node(&db).await;
        let (app, acting) = an_app(&service).await;
        let any = create_template(&service, &acting, new_template("Any", TemplateStatus::Approved)).await;
        let instance = |sendable: Sendable| sendable.channels[0].instance.map(|instance| (instance.id, instance.enabled));
        assert_eq!(instance(load(&db, app, any.slug.as_str(), None).await.unwrap()), None);

        let later = |seconds: u64| Acting { now: noon().plus(std::time::Duration::from_secs(seconds)), ..acting.clone() };
        let off = NewChannel { enabled: false, ..new_channel("Off", ChannelType::InApp) };
        let off = create_channel(&service, &later(1), off).await;
        assert_eq!(instance(load(&db, app, any.slug.as_str(), None).await.unwrap()), Some((off.id, false)));

        let on = create_channel(&service, &later(2), new_channel("On", ChannelType::InApp)).await;
        create_channel(&service, &later(3), new_channel("Newest", ChannelType::InApp)).await;
        assert_eq!(instance(load(&db, app, any.slug.as_str(), None).await.unwrap()), Some((on.id, true)));

        let named = NewTemplate {
            channels: vec![content(ChannelType::InApp, Some(off.slug.as_str()))],
            ..new_template("Named", TemplateStatus::Approved)
        };
        let named = create_template(&service, &acting, named).await;
        assert_eq!(named.current.content.channels[0].channel_id, Some(off.id));
        assert_eq!(instance(load(&db, app, named.slug.as_str(), None).await.unwrap()), Some((off.id, false)));

        let patch = ChannelPatch { enabled: Some(true), ..ChannelPatch::default() };
        channel::update(&service, &acting, Reference::Id(off.id), patch, None).await.unwrap();
        assert_eq!(instance(load(&db, app, named.slug.as_str(), None).await.unwrap()), Some((off.id, true)));
        assert_eq!(instance(load(&db, app, any.slug.as_str(), None).await.unwrap()), Some((off.id, true)));
    }
}
