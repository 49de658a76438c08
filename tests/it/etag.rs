//! Etags: every rpc of the contract that takes one, over both doors. The rpcs come from the descriptor, so a new one is
//! walked too.

use serde_json::{Value, json};

use crate::everywhere;
use crate::isolation::{furnish, request, rows};
use crate::support::rpc::Rpc;
use crate::support::world::{Caller, World};

/// The rpcs that take an etag.
fn rpcs() -> Vec<Rpc> {
    let mut rpcs = Rpc::all();
    rpcs.retain(|rpc| rpc.method.input().get_field_by_name("etag").is_some());
    assert!(
        rpcs.len() > 8,
        "the descriptor holds only {} rpcs with an etag",
        rpcs.len()
    );
    rpcs
}

/// The rpc that reads what another one changes: `GetUser` for `UpdateUser` and the like.
fn reader(rpc: &Rpc) -> String {
    let name = rpc.name();
    let verbs = [
        "Update",
        "Set",
        "Remove",
        "Archive",
        "Send",
        "Schedule",
        "Unschedule",
        "Pause",
        "Resume",
        "Cancel",
        "Delete",
    ];
    let noun = verbs.iter().find_map(|verb| name.strip_prefix(verb));
    let noun = noun.unwrap_or_else(|| unreachable!("tell this test what {name} changes"));
    format!(
        "Get{}",
        noun.strip_suffix("Channel")
            .filter(|owner| !owner.is_empty())
            .unwrap_or(noun)
    )
}

async fn etag(world: &World, rpc: &Rpc, caller: &Caller, request: &Value) -> Value {
    let reader = Rpc::named(&reader(rpc));
    let fields = reader.path_fields();
    let input = reader.method.input();
    let named = fields.iter().map(|field| {
        let name = input.get_field_by_name(field).unwrap().json_name().to_owned();
        let value = request[&name].clone();
        (name, value)
    });
    let read = world.call(reader.name(), caller, Value::Object(named.collect())).await;
    read.data()["etag"].clone()
}

fn caller_of(rpc: &Rpc, full: &Caller) -> Caller {
    if rpc.callers().iter().any(|kind| kind == "CALLER_KIND_FULL_ACCESS") {
        full.clone()
    } else {
        Caller::operator()
    }
}

everywhere! {
    async fn an_etag_holds_for_every_rpc_that_takes_one(world) {
        for rpc in rpcs() {
            // An app of its own for each, because some of them end what others need.
            let shop = world.tenant(&format!("shop-{}", rpc.name().to_lowercase())).await;
            let entities = furnish(&world, &shop).await;
            let caller = caller_of(&rpc, &shop.caller);
            let (mut request, _) = request(&rpc, &entities);
            let current = etag(&world, &rpc, &caller, &request).await;
            let before = rows(&world, None).await;
            for stale in ["v0", "v999", "x"] {
                request["etag"] = json!(stale);
                let refused = world.call(rpc.name(), &caller, request.clone()).await;
                assert_eq!((refused.status, refused.code()), (412, "ERR_PRECONDITION_FAILED"), "{}: {refused:#?}", rpc.name());
                assert_eq!(refused.body["error"]["details"], json!({"etag": current, "received": stale}), "{}", rpc.name());
            }
            assert_eq!(rows(&world, None).await, before, "{} changed something", rpc.name());
            request["etag"] = current.clone();
            world.call(rpc.name(), &caller, request.clone()).await.data();
            if rpc.name().starts_with("Delete") {
                continue;
            }
            assert_ne!(etag(&world, &rpc, &caller, &request).await, current, "{}", rpc.name());
        }
    }
}
