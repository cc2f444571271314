//! Events: what happened, as one line of JSON each.

use super::{Labels, wire};

wire! {
    Event {
        status "status"?: String,
        id "id"?: String,
        from "from"?: String,
        kind "Type": String,
        action "Action": String,
        actor "Actor": Actor,
        scope "scope"?: String,
        time "time"?: i64,
        time_nano "timeNano"?: i64,
    }
    Actor {
        id "ID": String,
        attributes "Attributes": Labels,
    }
}
