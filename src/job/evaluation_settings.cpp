#include "calque/job/evaluation_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "calque/core/error.h"
#include "calque/job/task_questions.h"
#include "job/refuse.h"

namespace calque::job {
namespace {

constexpr const char* kNameCharacters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// "prose" for prose.txt and prose.jsonl.gz.
std::string name_of_file(std::filesystem::path file, const char* otherwise) {
  if (file.extension() == ".gz" || file.extension() == ".zst") file = file.stem();
  std::string name = file.stem().string();
  for (char& c : name)
    if (std::string_view(kNameCharacters).find(c) == std::string_view::npos) c = '-';
  return name.empty() ? otherwise : name;
}

void check_source(const EvaluationText& text) {
  if (text.text.empty() == text.tokens.empty())
    throw Error(ErrorKind::kConfig, "E206",
                "evaluate.texts needs either text or tokens (one of them)");
  check_exists(text.file(), "evaluate.texts");
}

void check_name(const char* where, const std::string& name, const std::filesystem::path& file,
                std::set<std::string>& seen) {
  if (name.find_first_not_of(kNameCharacters) != std::string::npos)
    throw Error(ErrorKind::kConfig, "E242",
                fmt::format("{}: '{}' is not a valid name: use letters, digits, - and _, because "
                            "it becomes part of column names",
                            where, name));
  if (!seen.insert(name).second)
    throw Error(ErrorKind::kConfig, "E242",
                fmt::format("{}: two are called '{}' ({}); give one of them another name", where,
                            name, file.string()));
}

void check_task(const TaskSettings& task) {
  check_exists(task.file, "evaluate.tasks");
  for (const std::string& stop : task.stop)
    if (stop.empty())
      throw Error(ErrorKind::kConfig, "E247",
                  fmt::format("evaluate.tasks: a stop string of '{}' is empty, and would end every "
                              "answer before it begins; remove it",
                              task.name));
  answer_regex(task);
}

std::string shown(const std::string& type) { return type.empty() ? "-" : type; }

std::string name_of(const KvCacheSettings& cache) {
  if (!cache.name.empty()) return cache.name;
  std::string name = cache.k_type == cache.v_type
                         ? shown(cache.k_type)
                         : fmt::format("{}/{}", shown(cache.k_type), shown(cache.v_type));
  return cache.layers.empty() ? name : fmt::format("{}@{}", name, cache.layers);
}

void check_types(const KvCacheSettings& cache) {
  if (cache.k_type.empty() && cache.v_type.empty())
    throw Error(ErrorKind::kConfig, "E245",
                fmt::format("evaluate.kv_cache '{}' needs k_type and v_type (one or both)",
                            name_of(cache)));
}

void check_seqlen(Index seqlen, const model::ModelConfig& config, const char* key) {
  if (config.max_positions == 0 || seqlen <= config.max_positions) return;
  throw Error(ErrorKind::kConfig, "E207",
              fmt::format("{} is {}, but the model was made for at most {} positions "
                          "(max_position_embeddings). Set {}: {}",
                          key, seqlen, config.max_positions, key, config.max_positions));
}

}  // namespace

std::vector<eval::KvCacheSpec> kv_caches_of(const EvaluationSettings& settings,
                                            const model::ModelConfig& config) {
  std::vector<eval::KvCacheSpec> specs;
  for (const KvCacheSettings& cache : settings.kv_cache) {
    check_types(cache);
    eval::KvCacheSpec& spec = specs.emplace_back();
    spec.name = name_of(cache);
    spec.keys = eval::kv_type_from(cache.k_type);
    spec.values = eval::kv_type_from(cache.v_type);
    spec.layers = eval::layers_from(cache.layers, config.num_layers);
    if (std::count_if(specs.begin(), specs.end(),
                      [&](const eval::KvCacheSpec& other) { return other.name == spec.name; }) > 1)
      throw Error(ErrorKind::kConfig, "E245",
                  fmt::format("evaluate.kv_cache has two entries called '{}'; give one of them "
                              "another name, or remove it",
                              spec.name));
  }
  return specs;
}

std::vector<Index> cache_seqlens(const EvaluationSettings& settings, Index longest) {
  std::vector<Index> wanted = settings.kv_cache_seqlens;
  if (wanted.empty()) wanted = {settings.seqlen, 0};
  std::vector<Index> result;
  for (const Index seqlen : wanted) {
    const Index length = seqlen == 0 ? longest : seqlen;
    if (std::find(result.begin(), result.end(), length) == result.end()) result.push_back(length);
  }
  return result;
}

void check_evaluation_of(const EvaluationSettings& settings, const model::ModelConfig& config) {
  check_seqlen(settings.seqlen, config, "evaluate.seqlen");
  for (const Index seqlen : settings.kv_cache_seqlens)
    check_seqlen(seqlen, config, "evaluate.kv_cache_seqlens");
  for (const eval::KvCacheSpec& cache : kv_caches_of(settings, config))
    eval::make_kv_cache_rounding(cache, model::family_of(config));
}

std::vector<EvaluationText> EvaluationSettings::named_texts() const {
  std::vector<EvaluationText> result = texts;
  for (EvaluationText& item : result) {
    if (item.name.empty()) item.name = name_of_file(item.file(), "text");
    if (!item.windows) item.windows = windows;
  }
  return result;
}

std::vector<TaskSettings> EvaluationSettings::named_tasks() const {
  std::vector<TaskSettings> result = tasks;
  for (TaskSettings& task : result)
    if (task.name.empty()) task.name = name_of_file(task.file, "task");
  return result;
}

void check_evaluation(const EvaluationSettings& settings) {
  if (settings.texts.empty() && settings.tasks.empty())
    throw Error(ErrorKind::kConfig, "E206",
                "evaluate needs texts or tasks: give at least one of either");
  std::set<std::string> names;
  for (const EvaluationText& text : settings.named_texts()) {
    check_source(text);
    check_name("evaluate.texts", text.name, text.file(), names);
  }
  names.clear();
  for (const TaskSettings& task : settings.named_tasks()) {
    check_name("evaluate.tasks", task.name, task.file, names);
    check_task(task);
  }
}

bool reads_text(const EvaluationSettings& settings) {
  const std::vector<EvaluationText> texts = settings.named_texts();
  return !settings.tasks.empty() || std::any_of(texts.begin(), texts.end(), [](const auto& text) {
    return !text.text.empty();
  });
}

}  // namespace calque::job
