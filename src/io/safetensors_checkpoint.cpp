#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "io/refuse.h"
#include "io/safetensors_header.h"

namespace calque::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleName = "model.safetensors";

using WeightMap = std::map<std::string, std::string>;  // tensor -> file name

// Refuses file names in the index that leave the folder ("../x", "/etc/x").
void check_plain_name(const std::string& tensor, const std::string& file) {
  const bool plain = !file.empty() && file != "." && file != ".." &&
                     file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  if (!plain)
    refuse(fmt::format("weight_map maps tensor {} to {}, which is not a plain file name",
                       quote_name(tensor), quote_name(file)));
}

WeightMap read_weight_map(const fs::path& path) {
  const std::string text = read_file(path);
  return with_context(path.string(), [&] {
    const Json index = parse_json(text);
    const Json* files = index.find("weight_map");
    if (files == nullptr || !files->is_object()) refuse("has no object \"weight_map\"");
    WeightMap map;
    for (const auto& [tensor, file] : files->members()) {
      if (!file.is_string())
        refuse(fmt::format("weight_map gives tensor {} no file name", quote_name(tensor)));
      check_plain_name(tensor, file.string());
      map.emplace(tensor, file.string());
    }
    return map;
  });
}

std::set<std::string> files_of(const WeightMap& map) {
  std::set<std::string> files;
  for (const auto& [tensor, file] : map) files.insert(file);
  return files;
}

void check_present(const fs::path& folder, const WeightMap& map, const std::string& file) {
  if (fs::exists(folder / file)) return;
  const auto count = std::count_if(map.begin(), map.end(),
                                   [&](const auto& entry) { return entry.second == file; });
  refuse(fmt::format("{}: missing, but {} says that {} tensor{} in it; is the download complete?",
                     (folder / file).string(), kSafetensorsIndex, count,
                     count == 1 ? " is" : "s are"));
}

void check_shard_tensors(const SafetensorsFile& shard, const WeightMap& map) {
  const std::string file = shard.path().filename().string();
  for (const TensorRef& tensor : shard.tensors()) {
    const auto entry = map.find(tensor.name);
    if (entry == map.end())
      refuse(fmt::format("{}: holds tensor {}, which {} does not list", shard.path().string(),
                         quote_name(tensor.name), kSafetensorsIndex));
    if (entry->second != file)
      refuse(fmt::format("{}: holds tensor {}, which {} places in {}", shard.path().string(),
                         quote_name(tensor.name), kSafetensorsIndex, quote_name(entry->second)));
  }
}

void check_index_tensors(const fs::path& folder, const WeightMap& map,
                         const std::vector<std::unique_ptr<SafetensorsFile>>& shards) {
  std::map<std::string, const SafetensorsFile*> by_name;
  for (const auto& shard : shards) by_name.emplace(shard->path().filename().string(), shard.get());
  for (const auto& [tensor, file] : map)
    if (by_name.at(file)->find(tensor) == nullptr)
      refuse(fmt::format("{}: lists tensor {} in {}, which does not hold it",
                         (folder / kSafetensorsIndex).string(), quote_name(tensor), file));
}

bool holds_pickles(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".bin" || entry.path().extension() == ".pth") return true;
  return false;
}

[[noreturn]] void refuse_folder(const fs::path& folder) {
  if (!fs::is_directory(folder)) refuse(fmt::format("{}: no such folder", folder.string()));
  if (holds_pickles(folder))
    refuse(
        fmt::format("{}: holds only PyTorch pickles (*.bin), which can run code when opened and "
                    "are not read; use the safetensors version of this model",
                    folder.string()));
  refuse(
      fmt::format("{}: holds neither {} nor {}", folder.string(), kSingleName, kSafetensorsIndex));
}

std::vector<std::unique_ptr<SafetensorsFile>> open_shards(const fs::path& folder) {
  std::vector<std::unique_ptr<SafetensorsFile>> shards;
  // The single file takes precedence over an index, as in transformers.
  if (fs::exists(folder / kSingleName)) {
    shards.push_back(std::make_unique<SafetensorsFile>(folder / kSingleName));
    return shards;
  }
  if (!fs::exists(folder / kSafetensorsIndex)) refuse_folder(folder);
  const WeightMap map = read_weight_map(folder / kSafetensorsIndex);
  for (const std::string& file : files_of(map)) check_present(folder, map, file);
  for (const std::string& file : files_of(map))
    shards.push_back(std::make_unique<SafetensorsFile>(folder / file));
  for (const auto& shard : shards) check_shard_tensors(*shard, map);
  check_index_tensors(folder, map, shards);
  return shards;
}

}  // namespace

SafetensorsCheckpoint::SafetensorsCheckpoint(const fs::path& folder)
    : folder_(folder), shards_(open_shards(folder)) {
  for (const auto& shard : shards_)
    for (const TensorRef& tensor : shard->tensors()) {
      index_.emplace(tensor.name, tensors_.size());
      tensors_.push_back(tensor);
    }
}

const TensorRef* SafetensorsCheckpoint::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorRef& SafetensorsCheckpoint::at(std::string_view name) const {
  if (const TensorRef* tensor = find(name)) return *tensor;
  const std::vector<std::string_view> names = [&] {
    std::vector<std::string_view> all;
    for (const TensorRef& tensor : tensors_) all.push_back(tensor.name);
    return all;
  }();
  const std::string hint =
      names.empty() ? "it holds none"
                    : "the nearest name there is " + quote_name(nearest_name(name, names));
  refuse(fmt::format("{}: has no tensor {}; {}", folder_.string(), quote_name(name), hint));
}

std::uint64_t SafetensorsCheckpoint::total_bytes() const {
  std::uint64_t total = 0;
  for (const TensorRef& tensor : tensors_) total += tensor.bytes.size();
  return total;
}

std::vector<fs::path> SafetensorsCheckpoint::files() const {
  std::vector<fs::path> paths;
  for (const auto& shard : shards_) paths.push_back(shard->path());
  return paths;
}

}  // namespace calque::io
