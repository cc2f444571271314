//! Images of one node.

use super::{ErrorBody, Labels, wire};

wire! {
    ImageSummary {
        id "Id": String,
        parent_id "ParentId": String,
        repo_tags "RepoTags": Vec<String>,
        repo_digests "RepoDigests": Vec<String>,
        created "Created": i64,
        size "Size": u64,
        shared_size "SharedSize": i64,
        labels "Labels": Option<Labels>,
        containers "Containers": i64,
    }
    ImageDetails {
        id "Id": String,
        repo_tags "RepoTags": Vec<String>,
        repo_digests "RepoDigests": Vec<String>,
        parent "Parent": String,
        comment "Comment": String,
        created "Created": String,
        architecture "Architecture": String,
        os "Os": String,
        size "Size": u64,
    }
    /// One thing that a removal did.
    ImageRemoved {
        untagged "Untagged"?: String,
        deleted "Deleted"?: String,
    }
    /// A line of a long answer: what happens, or why it failed.
    Progress {
        stream "stream"?: String,
        status "status"?: String,
        id "id"?: String,
        error "error"?: String,
        error_detail "errorDetail"?: Option<ErrorBody>,
    }
}
