#include "calque/resume/shared_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "pipeline/plan_job.h"
#include "resume/statistics_store.h"
#include "pipeline/stopwatch.h"

namespace calque::resume {
namespace {

namespace fs = std::filesystem;

text::PackedTokens copy_of(const text::PackedTokens& packed) {
  text::PackedTokens copy;
  copy.blocks.ids_BS = packed.blocks.ids_BS.clone();
  copy.blocks.lengths_B = packed.blocks.lengths_B;
  copy.manifest = packed.manifest;
  return copy;
}

std::string identity_of_file(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  const auto time = fs::last_write_time(path, error);
  return error ? fmt::format("{} missing\n", path.string())
               : fmt::format("{} {} {}\n", path.string(), size, time.time_since_epoch().count());
}

}  // namespace

SharedWork::SharedWork(Options options) : options_(std::move(options)) {}
SharedWork::~SharedWork() = default;

text::PackedTokens SharedWork::tokens(const std::string& key,
                                      const std::function<text::PackedTokens()>& make) {
  if (!options_.tokens) return make();
  const auto found = tokens_.find(key);
  if (found != tokens_.end()) {
    took("tokens", found->second.seconds);
    return copy_of(found->second.packed);
  }
  const pipeline::Stopwatch watch;
  Tokens made{make(), 0};
  made.seconds = watch.seconds();
  return copy_of(tokens_.emplace(key, std::move(made)).first->second.packed);
}

StatisticsStore* SharedWork::statistics(const std::string& key) {
  if (!options_.statistics) return nullptr;
  auto& store = stores_[key];
  if (!store) store = std::make_unique<StatisticsStore>(options_.folder / "statistics", key);
  return store.get();
}

std::shared_ptr<eval::ReferenceStates> SharedWork::reference(const job::Job& job) {
  if (!options_.reference) return nullptr;
  auto& states = references_[identity_of(job.model.path)];
  if (!states) {
    const bool in_files = job.runtime.max_ram > 0;
    states = std::make_shared<eval::ReferenceStates>(
        std::make_shared<io::ScratchSpace>(0, in_files ? options_.folder : fs::path()));
  }
  return states;
}

void SharedWork::took(const std::string& what, double seconds) {
  const auto same = [&](const Taken& t) { return t.what == what; };
  const auto found = std::find_if(taken_.begin(), taken_.end(), same);
  if (found == taken_.end())
    taken_.push_back({what, seconds});
  else
    found->seconds += seconds;
}

std::uint64_t shared_statistics_bytes(const job::Job& job) {
  return statistics_bytes(pipeline::SourceModel(job.model.path, job.model.allow_requantize).family);
}

std::string identity_of(const fs::path& path) {
  const fs::path whole = fs::weakly_canonical(path);
  if (!fs::is_directory(whole)) return identity_of_file(whole);
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(whole))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string identity;
  for (const fs::path& file : files) identity += identity_of_file(file);
  return identity;
}

}  // namespace calque::resume
