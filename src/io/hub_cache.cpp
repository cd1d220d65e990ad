#include "calque/io/hub_cache.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/core/quote.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "io/safetensors_header.h"

namespace calque::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "models--";

// A folder of the cache and a revision in it.
struct Request {
  std::string name;
  std::string revision;
};

Request request_of(std::string_view text) {
  const std::size_t at = text.find('@');
  if (at == std::string_view::npos) return {std::string(text), "main"};
  return {std::string(text.substr(0, at)), std::string(text.substr(at + 1))};
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// "org/name" <-> "models--org--name"
std::string folder_of(const std::string& name) {
  const std::size_t slash = name.find('/');
  return fmt::format("{}{}--{}", kPrefix, name.substr(0, slash), name.substr(slash + 1));
}

std::string name_of_folder(std::string_view folder) {
  folder.remove_prefix(kPrefix.size());
  const std::size_t dashes = folder.find("--");
  if (dashes == std::string_view::npos) return std::string(folder);
  return fmt::format("{}/{}", folder.substr(0, dashes), folder.substr(dashes + 2));
}

std::string download_command(const Request& request) {
  const std::string revision =
      request.revision == "main" ? "" : " --revision " + shell_quoted(request.revision);
  return "hf download " + shell_quoted(request.name) + revision;
}

std::string trimmed(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0)
    text.pop_back();
  return text;
}

// The snapshot of a branch, a tag, a hash or the beginning of one; an empty path if there is none.
fs::path snapshot_of(const fs::path& model, const std::string& revision) {
  std::error_code ignored;
  if (fs::is_regular_file(model / "refs" / revision, ignored)) {
    const fs::path named = model / "snapshots" / trimmed(read_file(model / "refs" / revision));
    return fs::is_directory(named, ignored) ? named : fs::path();
  }
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(model / "snapshots", ignored))
    if (entry.path().filename().string().starts_with(revision)) found.push_back(entry.path());
  return found.size() == 1 ? found.front() : fs::path();
}

// Names of the files with this ending; links to missing blobs count as missing.
std::vector<fs::path> files_in(const fs::path& folder, std::string_view ending) {
  std::vector<fs::path> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().filename().string().ends_with(ending) && fs::exists(entry.path(), ignored))
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

bool is_later_shard(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
}

// A folder of GGUF files alone means its file, if it is one model.
fs::path model_in(const fs::path& snapshot) {
  if (fs::exists(snapshot / "config.json") && !files_in(snapshot, ".safetensors").empty())
    return snapshot;
  std::vector<fs::path> files = files_in(snapshot, ".gguf");
  std::erase_if(files, is_later_shard);
  if (files.empty()) return snapshot;
  if (files.size() == 1) return files.front();
  std::vector<std::string> names;
  for (const fs::path& file : files) names.push_back(file.filename().string());
  throw Error(ErrorKind::kInput, "E179",
              fmt::format("{} holds several GGUF files: {}. Give the path of one of them",
                          snapshot.string(), fmt::join(names, ", ")));
}

[[noreturn]] void refuse_snapshot(const HubModel& model, const std::string& reason) {
  throw Error(
      ErrorKind::kInput, "E179",
      fmt::format("{} in the Hugging Face cache is not complete: {}. To fetch the rest: {}",
                  model.name, reason, download_command({model.name, std::string(model.revision)})));
}

// Names of the shards in the index that are not there.
std::vector<std::string> missing_shards(const fs::path& snapshot) {
  const Json index = read_json_if_present(snapshot / kSafetensorsIndex);
  const Json* files = index.find("weight_map");
  std::set<std::string> missing;
  if (files != nullptr && files->is_object())
    for (const Json::Member& member : files->members())
      if (member.value.is_string() && !fs::exists(snapshot / member.value.string()))
        missing.insert(member.value.string());
  return {missing.begin(), missing.end()};
}

}  // namespace

bool is_hub_name(std::string_view text) {
  const std::string name = request_of(text).name;
  const std::size_t slash = name.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == name.size()) return false;
  if (request_of(text).revision.empty() || name.front() == '.' || name.front() == '~') return false;
  if (name.ends_with(".gguf")) return false;  // a file
  return std::count(name.begin(), name.end(), '/') == 1 &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
         });
}

fs::path hub_cache() {
  if (const std::string cache = variable("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = variable("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  std::string caches = variable("XDG_CACHE_HOME");
  if (caches.empty()) caches = variable("HOME") + "/.cache";
  return fs::path(caches) / "huggingface" / "hub";
}

std::vector<std::string> models_in_hub_cache() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(hub_cache(), ignored)) {
    const std::string folder = entry.path().filename().string();
    if (folder.starts_with(kPrefix) && fs::is_directory(entry.path() / "snapshots", ignored))
      names.push_back(name_of_folder(folder));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<fs::path> find_in_hub_cache(std::string_view name) {
  const Request request = request_of(name);
  const fs::path model = fs::absolute(hub_cache()) / folder_of(request.name);
  const fs::path snapshot = snapshot_of(model, request.revision);
  if (snapshot.empty()) return std::nullopt;
  return model_in(snapshot.lexically_normal());
}

void refuse_hub_name(std::string_view name, const fs::path& path) {
  const Request request = request_of(name);
  std::string message =
      fmt::format("there is no '{}', and the Hugging Face cache ({}) has no {}. To fetch it: {}",
                  path.string(), hub_cache().string(), name, download_command(request));
  std::vector<std::string> there = models_in_hub_cache();
  const std::vector<std::string_view> views(there.begin(), there.end());
  if (std::find(there.begin(), there.end(), request.name) != there.end())
    message += fmt::format(" (another revision of {} is there)", request.name);
  else if (const std::string nearest = nearest_name(request.name, views);
           !nearest.empty() && edit_distance(nearest, request.name) <= request.name.size() / 2)
    message += fmt::format(". The nearest name in the cache is {}", nearest);
  throw Error(ErrorKind::kInput, "E178", message);
}

fs::path path_of_model(const std::string& text) {
  if (fs::exists(text) || !is_hub_name(text)) return text;
  const auto found = find_in_hub_cache(text);
  if (!found) refuse_hub_name(text, text);
  check_snapshot(*found);
  return *found;
}

std::optional<HubModel> hub_model_of(const fs::path& path) {
  if (path.empty()) return std::nullopt;
  const fs::path normal = fs::absolute(path).lexically_normal();
  std::vector<std::string> parts;
  for (const fs::path& part : normal) parts.push_back(part.string());
  for (std::size_t i = 0; i + 2 < parts.size(); ++i)
    if (parts[i].starts_with(kPrefix) && parts[i + 1] == "snapshots" && !parts[i + 2].empty())
      return HubModel{name_of_folder(parts[i]), parts[i + 2]};
  return std::nullopt;
}

void check_snapshot(const fs::path& path) {
  const std::optional<HubModel> model = hub_model_of(path);
  if (!model) return;
  if (!fs::is_directory(path)) {
    if (!fs::exists(path)) refuse_snapshot(*model, path.filename().string() + " is not there");
    return;
  }
  if (!fs::exists(path / "config.json")) refuse_snapshot(*model, "config.json is not there");
  if (const std::vector<std::string> missing = missing_shards(path); !missing.empty())
    refuse_snapshot(*model,
                    fmt::format("{} of the weights {} not there: {}", missing.size(),
                                missing.size() == 1 ? "is" : "are", fmt::join(missing, ", ")));
  const bool has_weights =
      fs::exists(path / "model.safetensors") || fs::exists(path / kSafetensorsIndex);
  const bool has_others = !files_in(path, ".bin").empty();  // refused where they are read
  if (!has_weights && !has_others) refuse_snapshot(*model, "model.safetensors is not there");
}

std::string name_of_model(const fs::path& path) {
  const fs::path file = path.filename();
  if (file.extension() == ".gguf") return file.stem().string();
  if (const std::optional<HubModel> model = hub_model_of(path))
    return model->name.substr(model->name.find('/') + 1);
  return file.string();
}

}  // namespace calque::io
