#include "calque/pipeline/evaluate_texts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <span>
#include <utility>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/job/evaluation_settings.h"
#include "calque/text/tokenizer.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PhaseNames : public record::Observer {
 public:
  void phase_started(const std::string& title, Index steps) override {
    names.push_back(title);
    steps_left = steps;
  }
  void step(Index /*done*/) override { --steps_left; }

  std::vector<std::string> names;
  Index steps_left = 0;
};

// The model of tests/fixtures/gguf, which has 1024 positions, and a text of some 5500 tokens.
class EvaluateTexts : public ::testing::Test {
 protected:
  EvaluateTexts() {
    settings.seqlen = 64;
    settings.windows = 3;
    const std::string text = io::read_file(imatrix_text());
    io::write_file(folder.path() / "half.txt", text.substr(0, text.size() / 2));
    io::write_file(folder.path() / "short.txt", text.substr(0, 400));
  }

  job::EvaluationText text_of(const std::string& name, const std::filesystem::path& path) const {
    return {.name = name, .text = path, .tokens = {}, .windows = {}};
  }

  std::vector<record::EvaluationReport> run() {
    const auto original = formats::open_artifact(fixture("artifacts/gguf/tiny-f16.gguf"));
    const auto artifact = formats::open_artifact(fixture("artifacts/gguf/tiny-1layer-Q4_0.gguf"));
    job::Tokens tokens(fixture("artifacts/source"));
    return evaluate_texts({.settings = settings,
                           .tokens = tokens,
                           .original = {"original", original.get(), &original->config()},
                           .artifacts = {{"tiny-q4_0", artifact.get(), &artifact->config()}},
                           .runner = {}},
                          observer);
  }

  std::string refusal() {
    try {
      check_evaluation(settings);
      model::ModelConfig config;
      config.architecture = "LlamaForCausalLM";
      config.num_layers = 2;
      config.num_heads = config.num_kv_heads = 2;
      config.head_dim = 64;
      config.window_of_layer = {0, 0};
      config.max_positions = 1024;
      check_evaluation_of(settings, config);
    } catch (const Error& error) {
      return std::string(error.code()) + ": " + error.what();
    }
    return "nothing was thrown";
  }

  testing::TempFolder folder;
  job::EvaluationSettings settings;
  PhaseNames observer;
};

std::vector<std::string> rows_of(const record::EvaluationReport& evaluation) {
  std::vector<std::string> rows;
  for (const record::Measurement& m : evaluation.models)
    rows.push_back(fmt::format("{} {} {}", m.label, record::name_of(m.kind), m.kv_cache));
  return rows;
}

TEST_F(EvaluateTexts, MeasuresEachTextThenTheCachesAtEachLength) {
  settings.texts = {text_of("whole", imatrix_text()), text_of("", folder.path() / "short.txt")};
  settings.noise_floor = true;
  settings.kv_cache = {{.name = "", .k_type = "q8_0", .v_type = "q8_0", .layers = ""}};
  settings.kv_cache_seqlens = {0};
  const std::vector<record::EvaluationReport> evaluations = run();
  ASSERT_EQ(evaluations.size(), 4u);
  EXPECT_THAT(rows_of(evaluations[0]),
              ElementsAre("original reference ", "original noise_floor ", "tiny-q4_0 artifact "));
  EXPECT_THAT(rows_of(evaluations[2]),
              ElementsAre("original reference ", "original noise_floor ", "tiny-q4_0 artifact ",
                          "original original q8_0", "tiny-q4_0 artifact q8_0"));
  EXPECT_EQ(evaluations[0].text, "whole");
  EXPECT_EQ(evaluations[1].text, "short");
  EXPECT_EQ(evaluations[0].seqlen, 64);
  EXPECT_EQ(evaluations[2].seqlen, 1024);  // the model's
  EXPECT_EQ(evaluations[2].windows, 1);
  EXPECT_EQ(evaluations[3].seqlen, evaluations[1].manifest.sources.at(0).tokens);  // the text's
  EXPECT_EQ(evaluations[0].artifact(0)->label, "tiny-q4_0");
  EXPECT_EQ(evaluations[0].artifact(1), nullptr);
  // 2 layers, 2 heads of 64, keys and values, 34 bytes for 32 elements.
  EXPECT_EQ(evaluations[2].models.at(3).kv_cache_bytes, 1024u * 2 * 2 * 64 * 2 / 32 * 34);
  EXPECT_THAT(observer.names,
              ElementsAre("evaluate whole", "evaluate short", "evaluate whole (1024 tokens)",
                          ::testing::StartsWith("evaluate short (")));
  EXPECT_EQ(observer.steps_left, 0);
}

TEST_F(EvaluateTexts, MeasuresCachesOnceWhereLengthsAreTheSame) {
  settings.texts = {text_of("", folder.path() / "half.txt")};
  settings.windows = 1;
  settings.kv_cache = {{.name = "mine", .k_type = "fp8", .v_type = "", .layers = "1"}};
  settings.kv_cache_seqlens = {64, 64};
  const std::vector<record::EvaluationReport> evaluations = run();
  ASSERT_EQ(evaluations.size(), 1u);
  EXPECT_THAT(rows_of(evaluations[0]),
              ElementsAre("original reference ", "tiny-q4_0 artifact ", "original original mine",
                          "tiny-q4_0 artifact mine"));
}

TEST_F(EvaluateTexts, BeginsWindowsWithWhatTheTokenizerPutsFirst) {
  settings.texts = {text_of("", folder.path() / "half.txt")};
  const record::EvaluationReport by_default = run().front();
  settings.add_bos = true;
  const record::EvaluationReport with = run().front();
  settings.add_bos = false;
  const record::EvaluationReport without = run().front();
  EXPECT_EQ(by_default.begins_with->text, "<s>");
  EXPECT_THAT(by_default.begins_with->ids, ElementsAre(1));
  EXPECT_EQ(by_default.manifest.first_ids.front(), 1);
  EXPECT_EQ(by_default.reference().perplexity_hf.predictions, 3 * 64);
  EXPECT_EQ(with.reference().perplexity_hf.value, by_default.reference().perplexity_hf.value);
  EXPECT_THAT(without.begins_with->ids, ElementsAre());
  EXPECT_FALSE(without.begins_with->as_given);
  EXPECT_NE(without.manifest.first_ids.front(), 1);
  EXPECT_EQ(without.reference().perplexity_hf.predictions, 3 * 63);
}

// The same windows from a text and from its ids, where a BOS is asked for.
TEST_F(EvaluateTexts, ReadsTokenIdsAsTheyAreUnlessABosIsAskedFor) {
  const auto tokenizer = text::load_tokenizer(fixture("artifacts/source"));
  const text::TokenIds ids = tokenizer->encode(io::read_file(folder.path() / "half.txt"));
  io::SafetensorsWriter writer(folder.path() / "ids",
                               {{"input_ids", DType::kI32, {static_cast<Index>(ids.size())}}});
  writer.write("input_ids", std::as_bytes(std::span(ids)));
  writer.finish();
  settings.texts = {{.name = "ids",
                     .text = {},
                     .tokens = folder.path() / "ids" / "model.safetensors",
                     .windows = {}}};
  const record::EvaluationReport as_given = run().front();
  EXPECT_TRUE(as_given.begins_with->as_given);
  EXPECT_EQ(as_given.manifest.first_ids.front(), ids.front());
  settings.add_bos = true;
  const record::EvaluationReport with = run().front();
  EXPECT_FALSE(with.begins_with->as_given);
  EXPECT_EQ(with.begins_with->text, "token 1");
  settings.texts = {text_of("", folder.path() / "half.txt")};
  settings.add_bos.reset();
  const record::EvaluationReport of_text = run().front();
  EXPECT_EQ(with.manifest.tokens_sha256, of_text.manifest.tokens_sha256);
  EXPECT_EQ(with.reference().perplexity_hf.value, of_text.reference().perplexity_hf.value);
}

TEST_F(EvaluateTexts, RefusesToAddABosThatNobodyNames) {
  model::ModelConfig config;
  settings.texts = {{.name = "ids", .text = {}, .tokens = "ids.safetensors", .windows = {}}};
  job::Tokens tokens(fixture("artifacts/source"));
  EXPECT_THAT(tokens.prefix(settings.texts.front(), {}, config), ElementsAre());
  try {
    tokens.prefix(settings.texts.front(), true, config);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E246");
  }
}

TEST_F(EvaluateTexts, NamesCachesByWhatTheyRound) {
  model::ModelConfig config;
  config.num_layers = 4;
  const auto cache = [](const char* k, const char* v, const char* layers) {
    return job::KvCacheSettings{.name = "", .k_type = k, .v_type = v, .layers = layers};
  };
  settings.kv_cache = {cache("q8_0", "q8_0", ""), cache("q8_0", "q4_0", ""),
                       cache("q4_0", "", "0-1,3")};
  std::vector<std::string> names;
  for (const eval::KvCacheSpec& spec : kv_caches_of(settings, config)) names.push_back(spec.name);
  EXPECT_THAT(names, ElementsAre("q8_0", "q8_0/q4_0", "q4_0/-@0-1,3"));
}

TEST_F(EvaluateTexts, RefusesWhatCannotBeMeasured) {
  settings.texts = {text_of("a", imatrix_text()), text_of("a", folder.path() / "half.txt")};
  EXPECT_THAT(refusal(), HasSubstr("E242: evaluate.texts: two are called 'a'"));
  settings.texts.back().name = "b c";
  EXPECT_THAT(refusal(), HasSubstr("E242: evaluate.texts: 'b c' is not a valid name"));
  settings.texts.back() = text_of("b", "nowhere.txt");
  EXPECT_THAT(refusal(), HasSubstr("E202: evaluate.texts: 'nowhere.txt' does not exist"));
  const auto texts = std::exchange(settings.texts, {});
  EXPECT_THAT(refusal(), HasSubstr("E206: evaluate needs texts or tasks"));
  settings.tasks.resize(1);
  settings.tasks[0].file = "nowhere.jsonl";
  EXPECT_THAT(refusal(), HasSubstr("E202: evaluate.tasks: 'nowhere.jsonl' does not exist"));
  settings.tasks[0].file = folder.path() / "half.txt";
  settings.tasks[0].answer_pattern = "(";
  EXPECT_THAT(refusal(), HasSubstr("E247: evaluate.tasks 'half': answer_pattern '(' is not a"));
  settings.tasks.clear();
  settings.texts = {texts.front()};
  settings.kv_cache.resize(1);
  EXPECT_THAT(refusal(), HasSubstr("E245"));
  settings.kv_cache[0].k_type = settings.kv_cache[0].v_type = "q4_0";
  settings.kv_cache_seqlens = {2048};
  EXPECT_THAT(refusal(), HasSubstr("E207: evaluate.kv_cache_seqlens is 2048"));
  settings.kv_cache_seqlens = {0};
  settings.kv_cache.push_back(settings.kv_cache[0]);
  EXPECT_THAT(refusal(), HasSubstr("E245: evaluate.kv_cache has two entries called 'q4_0'"));
  settings.kv_cache.pop_back();
  EXPECT_EQ(refusal(), "nothing was thrown");
}

}  // namespace
}  // namespace calque::pipeline
