//! Random sends, repeats, reads and passing hours against the simplest thing that could be right: a list per user. After
//! every step all feeds and all unread counts, in all and by category, must be the list's.

use std::collections::BTreeMap;

use campanile::domain::{Acting, Service, Settings, app, category, channel, feed, notification, template};
use campanile::model::app::NewApp;
use campanile::model::category::NewCategory;
use campanile::model::channel::{ChannelType, NewChannel};
use campanile::model::feed::{FeedSort, ReadState};
use campanile::model::id::{ApiKeyId, AppId, FeedItemId};
use campanile::model::notification::{SendRequest, Sent};
use campanile::model::page::{Affix, Order, PageRequest, Start};
use campanile::model::template::{DataType, NewTemplate, TemplateChannel, TemplateStatus};
use campanile::model::variable::VariableValue;
use campanile::model::{Caller, Reason, Scope, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::on_both;

/// Random walks for each database, and the steps of each.
const WALKS: usize = 6;
const STEPS: usize = 30;

const USERS: [&str; 4] = ["ada", "bob", "eve", "sue"];
const HOUR: i64 = 3_600_000;

/// Templates that differ in what the counts depend on: category, whether it can be filtered by, hours of retention.
const TEMPLATES: [(Option<&str>, bool, u32); 4] = [
    (Some("News"), true, 0),
    (Some("Offers"), true, 2),
    (Some("News"), false, 1),
    (None, true, 3),
];

#[derive(Clone, Debug)]
enum Step {
    /// Sends a template to users, some of them twice.
    Send { template: usize, users: Vec<usize> },
    /// Makes an earlier send again, with its idempotency key.
    Repeat(usize),
    /// Reads one of all items ever sent, as a user whose item it may not be.
    Read { item: usize, user: usize },
    /// Lets minutes pass.
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let users = prop::collection::vec(0..USERS.len(), 1..6);
    prop_oneof![
        4 => (0..TEMPLATES.len(), users).prop_map(|(template, users)| Step::Send { template, users }),
        1 => any::<usize>().prop_map(Step::Repeat),
        4 => (any::<usize>(), 0..USERS.len()).prop_map(|(item, user)| Step::Read { item, user }),
        2 => (1_i64..90).prop_map(Step::Wait),
    ]
}

/// An item as the model keeps it.
#[derive(Clone, Debug)]
struct Item {
    id: FeedItemId,
    user: usize,
    template: usize,
    text: String,
    sent_at: Timestamp,
    read_at: Option<Timestamp>,
}

impl Item {
    fn is_visible(&self, now: Timestamp) -> bool {
        let (_, _, hours) = TEMPLATES[self.template];
        hours == 0 || now.millis() < self.sent_at.millis() + i64::from(hours) * HOUR
    }
}

struct World {
    service: Service,
    app: AppId,
    now: Timestamp,
    items: Vec<Item>,
    sends: Vec<(SendRequest, Sent)>,
}

impl World {
    fn acting(&self, user: Option<&str>) -> Acting {
        acting(self.app, user, self.now)
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { template, users } => self.send(template, &users).await,
            Step::Repeat(which) if !self.sends.is_empty() => self.repeat(which % self.sends.len()).await,
            Step::Read { item, user } if !self.items.is_empty() => self.read(item % self.items.len(), user).await,
            Step::Repeat(_) | Step::Read { .. } => {}
            Step::Wait(minutes) => self.now = later(self.now, minutes * 60_000),
        }
    }

    async fn send(&mut self, template: usize, users: &[usize]) {
        let text = format!("send {}", self.sends.len());
        let request = SendRequest {
            template: format!("template-{template}"),
            receivers: users.iter().map(|user| USERS[*user].to_owned()).collect(),
            defaults: [("text".to_owned(), VariableValue::Text(text.clone()))].into(),
            ..SendRequest::default()
        };
        let acting = with_key(self.acting(None), self.sends.len());
        let sent = notification::send(&self.service, &acting, request.clone())
            .await
            .unwrap();
        assert!(!sent.replayed);
        for receiver in &sent.value.receivers {
            self.items.push(Item {
                id: receiver.deliveries[0].feed_item_id.unwrap(),
                user: USERS.iter().position(|uid| *uid == receiver.uid.as_str()).unwrap(),
                template,
                text: text.clone(),
                sent_at: self.now,
                read_at: None,
            });
        }
        self.sends.push((request, sent.value));
        // Items of one moment are ordered by their ids, and a moment is a millisecond.
        self.now = later(self.now, 1);
    }

    async fn repeat(&self, which: usize) {
        let (request, first) = self.sends[which].clone();
        let acting = with_key(self.acting(None), which);
        let again = notification::send(&self.service, &acting, request).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.value, first);
    }

    async fn read(&mut self, which: usize, user: usize) {
        let acting = self.acting(Some(USERS[user]));
        let item = &mut self.items[which];
        let answer = feed::mark_read(&self.service, &acting, item.id).await;
        if item.user != user {
            assert_eq!(answer.unwrap_err().reason(), Reason::FeedItemNotFound);
            return;
        }
        item.read_at = item.read_at.or(Some(self.now));
        let stored = answer.unwrap().value.stored;
        assert_eq!((stored.read_at, stored.delivered_at), (item.read_at, item.read_at));
    }

    async fn check(&self) {
        for (user, uid) in USERS.iter().enumerate() {
            let mut expected: Vec<&Item> = self.items.iter().filter(|item| item.user == user).collect();
            expected.retain(|item| item.is_visible(self.now));
            expected.sort_by_key(|item| std::cmp::Reverse((item.sent_at, item.id)));
            let expected_rows: Vec<_> = expected
                .iter()
                .map(|item| (item.id, item.text.clone(), item.read_at))
                .collect();
            assert_eq!(self.walk(uid, ReadState::All).await, expected_rows, "the feed of {uid}");

            expected.retain(|item| item.read_at.is_none());
            let unread = self.walk(uid, ReadState::Unread).await;
            assert_eq!(unread.len(), expected.len(), "the unread feed of {uid}");
            assert_eq!(self.count(uid, None).await, expected.len(), "the count of {uid}");
            for name in ["News", "Offers", "Nothing"] {
                let of_category = expected.iter().filter(|item| {
                    let (category, filterable, _) = TEMPLATES[item.template];
                    filterable && category == Some(name)
                });
                assert_eq!(
                    self.count(uid, Some(name)).await,
                    of_category.count(),
                    "{name} of {uid}"
                );
            }
        }
    }

    async fn count(&self, uid: &str, category: Option<&str>) -> usize {
        let acting = self.acting(Some(uid));
        let count = feed::unread_count(&self.service, &acting, None, category)
            .await
            .unwrap();
        usize::try_from(count).unwrap()
    }

    /// The whole feed, by cursor and three at a time.
    async fn walk(&self, uid: &str, read_state: ReadState) -> Vec<(FeedItemId, String, Option<Timestamp>)> {
        let mut request = PageRequest {
            limit: 3,
            sort: FeedSort::SentAt,
            order: Order::Descending,
            start: Start::First,
            totals: false,
        };
        let mut rows = Vec::new();
        loop {
            let acting = self.acting(Some(uid));
            let page = feed::list(&self.service, &acting, None, read_state, &request)
                .await
                .unwrap();
            rows.extend(page.rows.into_iter().map(|item| {
                let text = item.content["body"][0]["content"].as_str().unwrap().to_owned();
                (item.stored.id, text, item.stored.read_at)
            }));
            match page.next {
                Some(next) => request.start = Start::Cursor(Affix::Append, next),
                None => return rows,
            }
        }
    }
}

fn acting(app: AppId, user: Option<&str>, now: Timestamp) -> Acting {
    let caller = Caller::App {
        app,
        key: ApiKeyId::new(now),
        scope: Scope::FullAccess,
    };
    Acting::new(caller, user.map(|uid| uid.parse().unwrap()), now)
}

fn with_key(acting: Acting, number: usize) -> Acting {
    acting.with_key("SendNotification", false, format!("send-{number}"), [7; 32])
}

fn later(now: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(now.millis() + millis).unwrap()
}

async fn world(service: &Service, now: Timestamp) -> World {
    let name = NewApp {
        slug: None,
        name: "Shop".parse().unwrap(),
    };
    let operator = Acting::new(Caller::Operator, None, now);
    let app = app::create(service, &operator, name).await.unwrap().value.id;
    let acting = acting(app, None, now);
    let bell = NewChannel {
        slug: None,
        channel_type: ChannelType::InApp,
        name: "Bell".parse().unwrap(),
        enabled: true,
        metadata: None,
    };
    channel::create(service, &acting, bell).await.unwrap();
    for name in ["News", "Offers"] {
        let new = NewCategory {
            name: name.parse().unwrap(),
            description: None,
        };
        category::create(service, &acting, new).await.unwrap();
    }
    for (number, (category, filterable, hours)) in TEMPLATES.into_iter().enumerate() {
        template::create(service, &acting, new_template(number, category, filterable, hours))
            .await
            .unwrap();
    }
    World {
        service: service.clone(),
        app,
        now,
        items: Vec::new(),
        sends: Vec::new(),
    }
}

fn new_template(number: usize, category: Option<&str>, filterable: bool, hours: u32) -> NewTemplate {
    let card = serde_json::json!({
        "version": "1.0",
        "body": [{ "id": "t", "type": "text", "content": "{{text}}" }],
        "style": { "background": { "light": "#FFFFFF", "dark": "#000000" } },
        "fallbackText": "{{text}}",
    });
    NewTemplate {
        slug: Some(format!("template-{number}").parse().unwrap()),
        name: format!("Template {number}").parse().unwrap(),
        category: category.map(str::to_owned),
        label: None,
        alternative_text: None,
        tags: Vec::new(),
        status: TemplateStatus::Approved,
        channels: vec![TemplateChannel {
            channel_type: ChannelType::InApp,
            channel_id: None,
            content: card.as_object().cloned(),
            data_type: DataType::UiTemplate,
            category_filter_enabled: filterable,
            template_label_enabled: true,
            message_retention_hours: hours,
        }],
        variable_schema: Vec::new(),
        config: None,
    }
}

on_both! {
    async fn feeds_and_counts_are_those_of_a_simple_model(db) {
        let now = Timestamp::from_millis(1_800_000_000_000).unwrap();
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        // The same walks every time, so a failure stays one until it is mended.
        let mut runner = TestRunner::deterministic();
        for walk in 0..WALKS {
            let steps = prop::collection::vec(step(), STEPS).new_tree(&mut runner).unwrap().current();
            let mut world = world(&service, later(now, i64::try_from(walk).unwrap())).await;
            for step in steps {
                world.take(step).await;
                world.check().await;
            }
            let sent: BTreeMap<_, _> = world.items.iter().map(|item| (item.id, item)).collect();
            assert_eq!(sent.len(), world.items.len(), "every item has an id of its own");
        }
        service.close().await;
    }
}
