//! Every point where a process may die, and what brings a process there. A point that is missing here, or that no process
//! reaches, fails a test.

use std::collections::{BTreeMap, BTreeSet};

use campanile::failpoint::Point;

use super::aging::{Kind, age};
use super::check;
use super::load::{self, Journal, Load, Pressure, shop};
use super::server::{Server, abort_at, dies_at_start, execute};
use super::settled;
use crate::on_both;
use crate::support::database::{Backend, TestDatabase};

/// What brings a process to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scene {
    /// Its start.
    Start,
    /// Sends and batches.
    Load,
    /// A receiver that the database refuses to serve.
    Refusal,
    /// Campaigns, from the draft to the end.
    Campaign,
    /// The further steps of sequences, which `steps.rs` tries out.
    Steps,
    /// What has expired and what is old.
    Sweep,
    /// SIGTERM while it is in the middle of a page.
    Stop,
}

/// Each point with its scene, and at which of the times that it is reached the process dies.
const POINTS: &[(Point, Scene, u32)] = &[
    (Point::Migrating, Scene::Start, 1),
    (Point::SendPlanned, Scene::Load, 3),
    (Point::SendBeforeCommit, Scene::Load, 3),
    (Point::SendAfterCommit, Scene::Load, 3),
    (Point::MarkBeforeCommit, Scene::Load, 2),
    (Point::MarkAfterCommit, Scene::Load, 2),
    (Point::LeaseBeforeCommit, Scene::Load, 2),
    (Point::AfterLease, Scene::Load, 2),
    (Point::StepPlanned, Scene::Load, 2),
    (Point::BetweenLedgerAndHeads, Scene::Load, 3),
    (Point::BetweenHeadsAndItems, Scene::Load, 3),
    (Point::AfterItems, Scene::Load, 3),
    (Point::StepBeforeCommit, Scene::Load, 2),
    (Point::BetweenSteps, Scene::Load, 1),
    (Point::BeforeCompletion, Scene::Load, 2),
    (Point::CompletionBeforeCommit, Scene::Load, 1),
    (Point::CompletionAfterCommit, Scene::Load, 1),
    (Point::PutBackBeforeCommit, Scene::Refusal, 1),
    (Point::HalvedBeforeCommit, Scene::Refusal, 1),
    (Point::HalvedAfterCommit, Scene::Refusal, 1),
    (Point::GivenUpBeforeCommit, Scene::Refusal, 1),
    (Point::GivenUpAfterCommit, Scene::Refusal, 1),
    (Point::CampaignUnfinished, Scene::Campaign, 2),
    (Point::CampaignBeforeCommit, Scene::Campaign, 2),
    (Point::StartBeforeCommit, Scene::Campaign, 2),
    (Point::StartAfterCommit, Scene::Campaign, 2),
    (Point::DueFound, Scene::Campaign, 1),
    (Point::FireBeforeCommit, Scene::Campaign, 1),
    (Point::FireAfterCommit, Scene::Campaign, 1),
    (Point::HoldIntended, Scene::Campaign, 1),
    (Point::PauseBeforeCommit, Scene::Campaign, 1),
    (Point::ResumeBeforeCommit, Scene::Campaign, 1),
    (Point::CancelBeforeCommit, Scene::Campaign, 1),
    (Point::ImportLeased, Scene::Campaign, 2),
    (Point::ImportLookedThrough, Scene::Campaign, 2),
    (Point::BatchBeforeCommit, Scene::Campaign, 3),
    (Point::BetweenBatches, Scene::Campaign, 3),
    (Point::ImportBeforeEnd, Scene::Campaign, 1),
    (Point::ImportEndBeforeCommit, Scene::Campaign, 1),
    (Point::CutBeforeCommit, Scene::Steps, 1),
    (Point::CutAfterCommit, Scene::Steps, 1),
    (Point::ClaimBeforeCommit, Scene::Steps, 1),
    (Point::BeforeDelivery, Scene::Steps, 1),
    (Point::AfterDelivery, Scene::Steps, 1),
    (Point::OutcomeBeforeCommit, Scene::Steps, 1),
    (Point::OutcomeAfterCommit, Scene::Steps, 1),
    (Point::ExpiredBeforeCommit, Scene::Sweep, 1),
    (Point::RemovedBeforeCommit, Scene::Sweep, 1),
    (Point::ForgottenBeforeCommit, Scene::Sweep, 1),
    (Point::Stopping, Scene::Stop, 1),
    (Point::GivenBackBeforeCommit, Scene::Stop, 1),
    (Point::GivenBackAfterCommit, Scene::Stop, 1),
    (Point::Stopped, Scene::Stop, 1),
];

/// Receivers of a batch that is one page and many steps.
const LONG: u64 = 200;

/// The points of a scene.
pub(super) fn points(scene: Scene) -> impl Iterator<Item = (Point, u32)> {
    let of = POINTS.iter().filter(move |(_, of, _)| *of == scene);
    of.map(|(point, _, time)| (*point, *time))
}

#[test]
fn every_point_of_the_code_has_its_scene() {
    let listed: BTreeMap<_, _> = POINTS.iter().map(|(point, scene, _)| (*point, *scene)).collect();
    assert_eq!(listed.len(), POINTS.len(), "a point is listed twice");
    assert_eq!(listed.into_keys().collect::<Vec<_>>(), Point::ALL);
}

on_both! {
    async fn a_start_that_is_cut_short_is_made_good_by_the_next_one(db) {
        for (point, _) in points(Scene::Start) {
            dies_at_start(&db, point).await;
        }
        let server = Server::start(&db, &[]).await;
        shop(&server).await;
        let journal = load::some(&server, 1).await;
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        server.stop().await;
    }

    async fn a_process_may_die_anywhere_in_a_send_or_a_batch(db) {
        // A batch is one page, which no process does in one step at first.
        let whole = ("CAMPANILE_PAGE_ROWS", "40");
        let mut server = Server::start(&db, &[whole]).await;
        shop(&server).await;
        let load = Load::start(&server, Pressure::SOME);
        for (point, time) in points(Scene::Load) {
            let (name, armed) = abort_at(point, time);
            let next = Server::start(&db, &[(name, &armed), whole]).await;
            load.moved(&next);
            server.kill().await;
            next.died_at(point).await;
            server = Server::start(&db, &[whole]).await;
            load.moved(&server);
        }
        let journal = load.end().await;
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        server.stop().await;
    }

    async fn a_process_may_die_while_it_finds_out_whom_it_cannot_serve(db) {
        let api = Server::start(&db, &[("CAMPANILE_ROLES", "api")]).await;
        shop(&api).await;
        let mut journal = load::some(&api, 2).await;
        let refused = journal.sent[0].receivers[7].clone();
        refuse(&db, &refused).await;
        for sent in journal.sent.iter_mut().filter(|sent| sent.receivers.contains(&refused)) {
            sent.failed = BTreeSet::from([refused.clone()]);
        }
        for (point, time) in points(Scene::Refusal) {
            let (name, armed) = abort_at(point, time);
            let worker = Server::start(&db, &[("CAMPANILE_ROLES", "worker"), (name, &armed)]).await;
            worker.died_at(point).await;
        }
        let worker = Server::start(&db, &[("CAMPANILE_ROLES", "worker")]).await;
        assert_eq!(settled(&api, &journal).await, Vec::<String>::new());
        worker.stop().await;
        api.stop().await;
    }

    async fn a_process_may_die_while_it_sweeps(db) {
        let server = Server::start(&db, &[]).await;
        shop(&server).await;
        let mut journal = load::some(&server, 1).await;
        for kind in [Kind::Brief, Kind::Old] {
            journal.extend(load::batches(&server, 1, kind, (30, 40)).await);
        }
        check::wait(&server, &journal).await;
        server.stop().await;
        age(&db).await.unwrap();
        for (point, time) in points(Scene::Sweep) {
            let (name, armed) = abort_at(point, time);
            Server::start(&db, &[(name, &armed)]).await.died_at(point).await;
        }
        let server = Server::start(&db, &[]).await;
        check::wait_for_sweep(&server, &journal).await;
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        server.stop().await;
    }

    async fn a_process_may_die_while_it_stops(db) {
        let rows = LONG.to_string();
        let api = Server::start(&db, &[("CAMPANILE_ROLES", "api"), ("CAMPANILE_PAGE_ROWS", &rows)]).await;
        shop(&api).await;
        let mut journal = Journal::default();
        for (point, _) in points(Scene::Stop) {
            journal.extend(load::batches(&api, 1, Kind::Plain, (LONG, LONG)).await);
            // It stands still behind its first step, and so is in the middle of a page when it hears that it should stop.
            let armed = format!("{}=stop,{}=abort", Point::BetweenSteps.as_str(), point.as_str());
            let settings = [("CAMPANILE_TEST_FAILPOINTS", armed.as_str()), ("CAMPANILE_PAGE_ROWS", &rows)];
            let settings = [&settings[..], &[("CAMPANILE_ROLES", "worker"), ("CAMPANILE_WORKERS", "1")]].concat();
            let worker = Server::start(&db, &settings).await;
            worker.stands_still().await;
            worker.terminate().await;
            worker.go_on().await;
            worker.died_at(point).await;
        }
        let worker = Server::start(&db, &[("CAMPANILE_ROLES", "worker")]).await;
        assert_eq!(settled(&api, &journal).await, Vec::<String>::new());
        worker.stop().await;
        api.stop().await;
    }
}

/// Makes the database refuse every delivery to one user.
async fn refuse(db: &TestDatabase, uid: &str) {
    let is_them = format!("NEW.user_id = (SELECT id FROM users WHERE uid = '{uid}')");
    let statements = match db.backend {
        Backend::Sqlite => vec![format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON deliveries WHEN {is_them} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )],
        Backend::Postgres => vec![
            format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF {is_them} THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$"
            ),
            "CREATE TRIGGER refuse BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION refuse()".to_owned(),
        ],
    };
    for statement in statements {
        execute(db, &statement).await.unwrap();
    }
}
