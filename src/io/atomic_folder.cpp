#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "io/resource_error.h"
#include "io/unfinished.h"

namespace calque::io {
namespace {

namespace fs = std::filesystem;

// "out/" and "." become "out" and "/current/folder", to which a suffix can be appended.
fs::path with_plain_last_name(const fs::path& path) {
  fs::path plain = path.lexically_normal();
  if (!plain.has_filename()) plain = plain.parent_path();
  if (plain.filename() != "." && plain.filename() != "..") return plain;
  return fs::absolute(plain).lexically_normal().parent_path();
}

fs::path with_suffix(fs::path path, const char* suffix) { return path += suffix; }

void refuse_existing(const fs::path& path, bool overwrite) {
  const fs::file_status status = fs::status(path);
  if (!fs::exists(fs::symlink_status(path))) return;
  if (!fs::is_directory(status))
    throw Error(
        ErrorKind::kConfig, "",
        fmt::format("{}: exists and is not a folder; choose another output folder", path.string()));
  if (overwrite) return;
  throw Error(ErrorKind::kConfig, "",
              fmt::format("{}: the output folder already exists; choose another one, or allow "
                          "it to be overwritten",
                          path.string()));
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw_resource_error(path, "remove", error.value());
}

void rename_or_throw(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw_resource_error(to, "rename the finished folder to this name", errno);
}

// Puts `staging` in the place of `path`, and the old content where `staging` was. If the file
// system cannot swap two names atomically, a crash between the two renames leaves the old content
// under
// "<path>.replaced".
void swap_folders(const fs::path& staging, const fs::path& path) {
  if (::renameat2(AT_FDCWD, staging.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) return;
  const fs::path replaced = with_suffix(path, ".replaced");
  remove_tree(replaced);
  rename_or_throw(path, replaced);
  rename_or_throw(staging, path);
  rename_or_throw(replaced, staging);
}

}  // namespace

AtomicFolder::AtomicFolder(fs::path path, bool overwrite)
    : path_(with_plain_last_name(path)),
      staging_(with_suffix(path_, ".partial")),
      overwrite_(overwrite) {
  refuse_existing(path_, overwrite_);
  remove_tree(staging_);
  std::error_code error;
  fs::create_directories(staging_, error);
  if (error) throw_resource_error(staging_, "create the folder", error.value());
  note_unfinished(staging_);
}

AtomicFolder::AtomicFolder(fs::path path, bool overwrite, const std::string& identity)
    : path_(with_plain_last_name(path)),
      staging_(with_suffix(path_, ".partial")),
      overwrite_(overwrite),
      kept_(true) {
  if (identity_of(path_) == identity) {  // renamed already; what it replaced may be where it was
    remove_tree(staging_);
    rename_or_throw(path_, staging_);
  }
  if (identity_of(staging_) != identity)
    throw_missing_part(staging_, fs::exists(staging_) ? "is another folder" : "is missing");
  remove_tree(with_suffix(path_, ".replaced"));
  refuse_existing(path_, overwrite_);
}

std::string AtomicFolder::keep() {
  if (!kept_) {
    forget_unfinished(staging_);
    kept_ = true;
    sync_folder(staging_);
    sync_folder(staging_.has_parent_path() ? staging_.parent_path() : fs::path("."));
  }
  return identity_of(staging_);
}

AtomicFolder::~AtomicFolder() {
  if (committed_ || kept_) return;
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
  forget_unfinished(staging_);
}

void AtomicFolder::commit() {
  // Another run may have created a folder there in the meantime.
  refuse_existing(path_, overwrite_);
  sync_folder(staging_);
  forget_unfinished(staging_);
  const bool replaces = fs::exists(path_);
  if (replaces) {
    swap_folders(staging_, path_);
  } else {
    rename_or_throw(staging_, path_);
  }
  committed_ = true;
  sync_folder(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
  if (replaces) remove_tree(staging_);
}

}  // namespace calque::io
