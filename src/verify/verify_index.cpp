// Checks the files of a folder against its index.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "verify/verify_parts.h"

namespace calque::verify {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

using WeightMap = std::map<std::string, std::string>;  // tensor -> file name

bool is_plain(const std::string& file) {
  return !file.empty() && file != "." && file != ".." &&
         file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

WeightMap weight_map(const fs::path& folder, Findings& findings) {
  const std::optional<io::Json> index = io::parse_json_if_valid(io::read_file(folder / kIndex));
  const io::Json* entries = index ? index->find("weight_map") : nullptr;
  if (entries == nullptr || !entries->is_object()) {
    findings.fault("index",
                   fmt::format("{} has no object \"weight_map\". Download it again.", kIndex));
    return {};
  }
  WeightMap map;
  for (const auto& [tensor, file] : entries->members()) {
    if (file.is_string() && is_plain(file.string()))
      map.emplace(tensor, file.string());
    else
      findings.fault("index", fmt::format("{} maps tensor {} to {}, which is not a plain file name",
                                          kIndex, quote_name(tensor), file.dump()));
  }
  return map;
}

// Faults are reported under "index" if a file is missing, under "layout" if it cannot be read.
void open_file(const fs::path& path, const WeightMap& map, LooseTensors& tensors,
               Findings& findings) {
  const std::string name = path.filename().string();
  if (!fs::exists(path)) {
    const auto count = std::count_if(map.begin(), map.end(),
                                     [&](const auto& entry) { return entry.second == name; });
    tensors.complete = false;
    return findings.fault("index", fmt::format("shard {} is missing: {} names it for {} tensors. "
                                               "Download it.",
                                               quote_name(name), kIndex, count));
  }
  try {
    tensors.files.push_back(std::make_unique<io::SafetensorsFile>(path));
  } catch (const Error& error) {
    tensors.complete = false;
    findings.fault("layout", error.what());
  }
}

void collect(LooseTensors& tensors, Findings& findings) {
  std::map<std::string, std::string> owner;
  for (const auto& file : tensors.files)
    for (const io::TensorRef& tensor : file->tensors()) {
      const std::string name = file->path().filename().string();
      const auto [at, is_new] = owner.emplace(tensor.name, name);
      if (is_new)
        tensors.by_name.emplace(tensor.name, &tensor);
      else
        findings.fault("index", fmt::format("tensor '{}' is stored twice, in {} and in {}. Remove "
                                            "one.",
                                            tensor.name, at->second, name));
    }
}

void compare(const WeightMap& map, const LooseTensors& tensors, Findings& findings) {
  std::map<std::string, std::string> stored;
  for (const auto& file : tensors.files)
    for (const io::TensorRef& tensor : file->tensors())
      stored.emplace(tensor.name, file->path().filename().string());
  for (const auto& [tensor, file] : map) {
    const auto found = stored.find(tensor);
    if (found == stored.end() && tensors.complete)
      findings.fault(
          "index",
          fmt::format(
              "{} maps tensor '{}' to {}, which does not contain it. Download the shard again.",
              kIndex, tensor, file));
    if (found != stored.end() && found->second != file)
      findings.fault("index",
                     fmt::format("tensor '{}' is in {}, but {} says {}. Correct the index.", tensor,
                                 found->second, kIndex, file));
  }
  for (const auto& [tensor, file] : stored)
    if (map.count(tensor) == 0)
      findings.fault("index",
                     fmt::format("tensor '{}' in {} is not in {}: loaders will not see it. "
                                 "Add it to the index.",
                                 tensor, file, kIndex));
}

void report_other_files(const fs::path& folder, const std::set<std::string>& known,
                        Findings& findings) {
  std::error_code ignored;
  std::set<std::string> others;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") && known.count(name) == 0) others.insert(name);
  }
  for (const std::string& name : others)
    findings.warning("index", fmt::format("{} belongs to no index; some loaders read every "
                                          "*.safetensors file. Remove it.",
                                          quote_name(name)));
}

}  // namespace

LooseTensors load_loosely(const fs::path& folder, Findings& findings) {
  const bool sharded = fs::exists(folder / kIndex);
  if (!sharded && !fs::exists(folder / kSingle))
    throw Error(ErrorKind::kInput, "E202",
                fmt::format("'{}' has neither {} nor {}: there is nothing to verify",
                            folder.string(), kSingle, kIndex));
  const std::size_t before = findings.faults();
  const WeightMap map = sharded ? weight_map(folder, findings) : WeightMap{};
  std::set<std::string> names;
  if (!sharded) names.insert(kSingle);
  for (const auto& [tensor, file] : map) names.insert(file);

  LooseTensors tensors;
  for (const std::string& name : names) open_file(folder / name, map, tensors, findings);
  collect(tensors, findings);
  if (sharded) compare(map, tensors, findings);
  report_other_files(folder, names, findings);
  if (findings.faults() == before)
    findings.ok("index", fmt::format("{} tensors in {} file{}", tensors.by_name.size(),
                                     names.size(), names.size() == 1 ? "" : "s"));
  return tensors;
}

}  // namespace calque::verify
