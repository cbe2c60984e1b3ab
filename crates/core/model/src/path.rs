//! The rules by which a connection's path grows hop by hop (upstream `updatepath/common.go`).

use nsm_api::connection::{Connection, Path, PathSegment};

/// Segments a path may have: a chain of ten network functions across two nodes needs about fifty,
/// and a longer path is a loop.
pub const MAX_PATH_SEGMENTS: usize = 64;

/// Why a path cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `path.index` points behind the last segment.
    #[error("path.index is {index} but the path has {segments} segments")]
    Index {
        /// The index as received.
        index: u32,
        /// How many segments there are.
        segments: usize,
    },
    /// `connection.id` is not the id of the segment at `path.index`.
    #[error("connection.id is {id:?} but segment {index} ({name}) has id {segment_id:?}")]
    Id {
        /// The connection's id as received.
        id: String,
        /// The path's index.
        index: u32,
        /// The name in that segment.
        name: String,
        /// The id in that segment.
        segment_id: String,
    },
    /// More than [`MAX_PATH_SEGMENTS`].
    #[error(
        "path has {0} segments, at most {MAX_PATH_SEGMENTS} are allowed: do services chain in a loop?"
    )]
    TooLong(usize),
}

/// Where a hop stands in the path, and how to answer its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The id of our own segment: the connection's id from here on.
    pub id: String,
    /// The index of our own segment.
    pub index: u32,
    /// The connection's id that the caller must get back.
    pub before_id: String,
    /// The path's index that the caller must get back.
    pub before_index: u32,
}

impl Step {
    /// Gives an answer the id and index of the caller's segment; segments to the right stay.
    pub fn rewind(&self, connection: &mut Connection) {
        connection.id.clone_from(&self.before_id);
        connection.path.get_or_insert_default().index = self.before_index;
    }

    /// Gives a request our own id and index.
    pub fn enter(&self, connection: &mut Connection) {
        connection.id.clone_from(&self.id);
        connection.path.get_or_insert_default().index = self.index;
    }
}

/// Moves `path` onto the segment of the hop named `own` and returns where it stands.
///
/// `derive(upstream_id)` gives our id for the connection that the previous segment calls
/// `upstream_id` ("" where there is none). An id that already stands in our segment is kept only if
/// it is the derived one: a forged or foreign id is replaced. The connection's own id is the
/// caller's to change (see [`Step::enter`]). On an error the path is untouched.
pub fn advance(
    conn_id: &str,
    path: &mut Path,
    own: &str,
    mut derive: impl FnMut(&str) -> String,
) -> Result<Step, PathError> {
    let segments = path.path_segments.len();
    if segments > MAX_PATH_SEGMENTS {
        return Err(PathError::TooLong(segments));
    }
    if segments == 0 {
        let id = if conn_id.is_empty() {
            derive("")
        } else {
            conn_id.to_owned()
        };
        path.index = 0;
        path.path_segments.push(segment(own, &id));
        return Ok(Step {
            before_id: id.clone(),
            id,
            index: 0,
            before_index: 0,
        });
    }
    let index = path.index;
    let Some(current) = path.path_segments.get(index as usize) else {
        return Err(PathError::Index { index, segments });
    };
    if current.name == own {
        let id = current.id.clone();
        return Ok(Step {
            before_id: id.clone(),
            id,
            index,
            before_index: index,
        });
    }
    if current.id != conn_id {
        return Err(PathError::Id {
            id: conn_id.to_owned(),
            index,
            name: current.name.clone(),
            segment_id: current.id.clone(),
        });
    }
    let id = derive(conn_id);
    let next = index + 1;
    match path.path_segments.get_mut(next as usize) {
        Some(ours) => {
            if ours.name != own {
                own.clone_into(&mut ours.name);
            }
            if ours.id != id {
                ours.id.clone_from(&id);
            }
        }
        None if segments == MAX_PATH_SEGMENTS => return Err(PathError::TooLong(segments + 1)),
        None => path.path_segments.push(segment(own, &id)),
    }
    path.index = next;
    Ok(Step {
        id,
        index: next,
        before_id: conn_id.to_owned(),
        before_index: index,
    })
}

/// Cuts everything right of `path.index`: what the last server of a path does.
pub fn trim(path: &mut Path) {
    path.path_segments
        .truncate((path.index as usize).saturating_add(1));
}

/// The segment at `path.index`.
pub fn own(path: &Path) -> Option<&PathSegment> {
    path.path_segments.get(path.index as usize)
}

/// The segment at `path.index`, to be changed.
pub fn own_mut(path: &mut Path) -> Option<&mut PathSegment> {
    path.path_segments.get_mut(path.index as usize)
}

/// The segment left of `path.index`: whoever called us.
pub fn previous(path: &Path) -> Option<&PathSegment> {
    path.path_segments
        .get((path.index as usize).checked_sub(1)?)
}

/// The segment left of `path.index`, to be changed.
pub fn previous_mut(path: &mut Path) -> Option<&mut PathSegment> {
    path.path_segments
        .get_mut((path.index as usize).checked_sub(1)?)
}

/// The segment right of `path.index`: whom we called.
pub fn next(path: &Path) -> Option<&PathSegment> {
    path.path_segments
        .get((path.index as usize).checked_add(1)?)
}

fn segment(name: &str, id: &str) -> PathSegment {
    PathSegment {
        name: name.to_owned(),
        id: id.to_owned(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
