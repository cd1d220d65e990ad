#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace calque::io {

// Models that Hugging Face's tools have downloaded: `hf download org/name` leaves
// models--org--name/refs/main, which holds a hash, and models--org--name/snapshots/HASH, whose
// files are links to blobs. Nothing is downloaded here.

// A model of the hub at one revision.
struct HubModel {
  std::string name;      // "org/name"
  std::string revision;  // hash of the snapshot

  std::string text() const { return name + "@" + revision; }
};

// True for "org/name" and "org/name@revision"; the revision is a branch, a tag or a hash.
bool is_hub_name(std::string_view text);

// The folder of the cache: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or
// ~/.cache/huggingface/hub.
std::filesystem::path hub_cache();

// Names of the models that are there, sorted.
std::vector<std::string> models_in_hub_cache();

// The snapshot that `name` (a hub name) means; the file itself if its only model is a GGUF file.
// nullopt: it is not in the cache.
std::optional<std::filesystem::path> find_in_hub_cache(std::string_view name);

// Error(kInput, "E178"): `name` is not in the cache. The message has the command that fetches it,
// and names like it that are there. `path`: the path that was looked for first.
[[noreturn]] void refuse_hub_name(std::string_view name, const std::filesystem::path& path);

// The path that a command's argument means: itself, or a snapshot if it is a hub name and no path.
// Errors as refuse_hub_name.
std::filesystem::path path_of_model(const std::string& text);

// The model that a snapshot, or a file in it, belongs to; nullopt for all other paths.
std::optional<HubModel> hub_model_of(const std::filesystem::path& path);

// Error(kInput, "E179") if the snapshot at `path` lacks config.json or weights, or a shard that its
// index names. Does nothing for other paths.
void check_snapshot(const std::filesystem::path& path);

// The name of a model's folder, or of its file without extension; the hub's name of a snapshot.
std::string name_of_model(const std::filesystem::path& path);

}  // namespace calque::io
