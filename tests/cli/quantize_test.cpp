#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "calque/core/error.h"
#include "cli/run_program.h"
#include "cli/targets.h"
#include "support/paths.h"

// `calque quantize` and `calque init` as a newcomer uses them: the built program on the demo model,
// with few rows.

namespace calque::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kFewRows = " --samples 4 --seqlen 32 --quiet";
const std::string kOneText = " --calibration builtin:speeches";  // takes less time to tokenize

class Quantize : public ::testing::Test {
 protected:
  std::string out() const { return " --out " + shell_quoted(folder_ / "out"); }
  fs::path result(const std::string& name) const { return folder_ / "out" / name; }
  std::string text_of(const std::string& name) const { return contents_of(result(name)); }
  static std::string demo() { return shell_quoted(test::demo_model()) + " "; }
  static std::string family(const std::string& name) {
    return shell_quoted(test::fixtures() + "/families/" + name) + " ";
  }

  testing::TempFolder folder_;
};

TEST_F(Quantize, OneLineGivesTheFileItsJobAndWhatToDoNext) {
  const Outcome outcome = run("quantize " + demo() + "q4_k_m" + out() + kFewRows);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("\nResult       "), HasSubstr("demo-Q4_K_M.gguf: 4.33 MB"),
                    HasSubstr("\nCalibration  4 x 32 tokens of calque's own texts"),
                    HasSubstr("\nNeeds        "), HasSubstr("\nJob file     ")));
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("llama-cli -m " + result("demo-Q4_K_M.gguf").string()),
                                 HasSubstr("\n  measure the loss:      calque eval "),
                                 HasSubstr("\n  run it again:          calque run ")));
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(text_of("demo-Q4_K_M.yaml"), HasSubstr("\n  sources: [builtin] "));
  EXPECT_THAT(text_of("runs/demo-Q4_K_M/calibration_manifest.json"),
              HasSubstr("\"file\": \"builtin/prose.txt\""));
  const std::string bytes = text_of("demo-Q4_K_M.gguf");
  const Outcome again = run("run -q " + shell_quoted(result("demo-Q4_K_M.yaml")));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_TRUE(text_of("demo-Q4_K_M.gguf") == bytes);
}

TEST_F(Quantize, TakesAPresetIntoTheJobFile) {
  const Outcome unknown = run("quantize " + demo() + "gptq-4bit --preset better" + out());
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, AllOf(HasSubstr("--preset"), HasSubstr("balanced")));
  const std::string file = shell_quoted(folder_ / "best.yaml");
  const Outcome draft = run("init " + demo() + "gptq-4bit --preset best --out " + file);
  ASSERT_EQ(draft.exit_code, 0) << draft.err;
  EXPECT_THAT(contents_of(folder_ / "best.yaml"), HasSubstr("\n  preset: best "));
  EXPECT_EQ(run("validate " + file).exit_code, 0);
}

TEST_F(Quantize, SeveralTargetsAreOneJob) {
  const Outcome outcome =
      run("quantize " + demo() + "gptq-4bit W4A16 Q4_0" + out() + kFewRows + kOneText);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* name : {"demo-GPTQ-Int4/config.json", "demo-W4A16/config.json", "demo-Q4_0.gguf",
                           "demo-GPTQ-Int4-W4A16-Q4_0.yaml"})
    EXPECT_TRUE(fs::exists(result(name))) << name;
}

TEST_F(Quantize, NothingThatExistsIsReplacedUnasked) {
  const std::string command = "quantize " + demo() + "Q8_0" + out();
  ASSERT_EQ(run(command).exit_code, 0);
  EXPECT_THAT(run(command).err,
              AllOf(HasSubstr("error[E209]"), HasSubstr("demo-Q8_0.gguf' already "
                                                        "exists; give --overwrite")));
  write(result("demo-Q8_0.yaml"), text_of("demo-Q8_0.yaml") + "# mine\n");
  EXPECT_THAT(run(command).err, HasSubstr("demo-Q8_0.yaml' already exists with other settings"));
  EXPECT_EQ(run(command + " --overwrite").exit_code, 0);
}

TEST_F(Quantize, DryRunWritesNothing) {
  const Outcome outcome = run("quantize " + demo() + "--dry-run" + out());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("demo-Q4_K_M.gguf"), HasSubstr("Nothing was written")));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(Quantize, TheRuntimeChoosesTheTarget) {
  const std::pair<const char*, const char*> cases[] = {{"vllm", "demo-W4A16"},
                                                       {"sglang", "demo-GPTQ-Int4"},
                                                       {"transformers", "demo-GPTQ-Int4"},
                                                       {"llama.cpp", "demo-Q4_K_M.gguf"},
                                                       {"ollama", "demo-Q4_K_M.gguf"}};
  for (const auto& [runtime, name] : cases)
    EXPECT_THAT(run("quantize " + demo() + "--dry-run --for " + runtime + kOneText).out,
                HasSubstr(name));
  EXPECT_THAT(run("quantize " + demo() + "awq --for ollama").err,
              HasSubstr("error[E119]: Ollama does not load awq, which is for vLLM"));
}

TEST_F(Quantize, EightBitsNeedNoText) {
  EXPECT_THAT(run("quantize " + demo() + "Q8_0 --dry-run").out,
              HasSubstr("Calibration  no text needed"));
  EXPECT_THAT(
      run("quantize " + demo() + "Q4_0 --samples 4 --calibration builtin:speeches --dry-run").out,
      HasSubstr("Calibration  4 x 512 tokens of builtin:speeches\n"));
  EXPECT_THAT(run("quantize " + demo() + "Q4_0 --calibration none --dry-run").out,
              HasSubstr("Calibration  none: every weight is rounded to nearest"));
  EXPECT_THAT(run("quantize " + demo() + "awq --calibration none --dry-run").err,
              HasSubstr("awq measures its channel scales on text"));
}

TEST_F(Quantize, AMethodReplacesTheTargetsOwn) {
  const std::string file = shell_quoted(folder_ / "smooth.yaml");
  const Outcome draft = run("init " + demo() + "w8a8 --method smoothquant --out " + file);
  ASSERT_EQ(draft.exit_code, 0) << draft.err;
  EXPECT_THAT(contents_of(folder_ / "smooth.yaml"), HasSubstr("\n  method: smoothquant "));
  EXPECT_THAT(run("quantize " + demo() + "w8a8 --method smoothquant --calibration none").err,
              HasSubstr("error[E119]: method smoothquant measures inputs on text"));
  EXPECT_THAT(run("quantize " + demo() + "w4a16 --method awq --target-bpw 4.5" + kOneText).err,
              HasSubstr("error[E119]: a size is met by gptq"));
}

// 64 and 96 inputs: no block of 256, no group of 128.
TEST_F(Quantize, SettingsFitTheModelsShapes) {
  const Outcome outcome =
      run("quantize " + family("qwen3_moe") + "gptq-4bit Q4_K_M --calibration none --dry-run");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("\nnote: groups of 64, because larger ones do not"),
                                 HasSubstr("\nnote: some rows are no multiple of 256")));
}

TEST_F(Quantize, ShortTextGivesFewerRowsAndSaysSo) {
  write(folder_ / "short.txt", contents_of(test::calibration_data() + "/code.txt").substr(0, 4000));
  const std::string command = "quantize " + demo() + "Q4_0 --seqlen 64 --dry-run --calibration " +
                              shell_quoted(folder_ / "short.txt");
  EXPECT_THAT(run(command).out, AllOf(HasSubstr(" x 64 tokens of short.txt"),
                                      HasSubstr("rows of 64 tokens; 256 would be better")));
  const Outcome asked = run(command + " --samples 256");
  EXPECT_EQ(asked.exit_code, 3);
  EXPECT_THAT(asked.err, HasSubstr("error[E201]"));
}

TEST_F(Quantize, TakesAModelFromTheHuggingFaceCache) {
  const fs::path cache = folder_ / "hub/models--acme--Tiny-1B";
  const fs::path snapshot = cache / "snapshots/0a1b2c3d";
  fs::create_directories(cache / "refs");
  fs::create_directories(snapshot);
  write(cache / "refs/main", "0a1b2c3d");
  for (const auto& entry : fs::directory_iterator(test::demo_model()))
    fs::create_symlink(fs::canonical(entry.path()), snapshot / entry.path().filename());
  const std::string before = "HF_HUB_CACHE=" + shell_quoted(folder_ / "hub") + " ";

  const Outcome outcome =
      run("quantize acme/Tiny-1B gptq-4bit" + out() + kFewRows + kOneText, before);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(text_of("Tiny-1B-GPTQ-Int4.yaml"),
              HasSubstr("\nmodel: {path: acme/Tiny-1B@0a1b2c3d}\n"));
  EXPECT_THAT(text_of("runs/Tiny-1B-GPTQ-Int4/job.resolved.yaml"), HasSubstr(snapshot.string()));
  EXPECT_THAT(text_of("Tiny-1B-GPTQ-Int4/README.md"), HasSubstr("base_model: \"acme/Tiny-1B\""));
  EXPECT_THAT(text_of("Tiny-1B-GPTQ-Int4/calque/job.resolved.yaml"),
              HasSubstr("path: acme/Tiny-1B@0a1b2c3d\n"));

  EXPECT_EQ(run("tokenize --tokenizer acme/Tiny-1B --text " +
                    shell_quoted(test::calibration_data() + "/code.txt"),
                before)
                .exit_code,
            0);
  EXPECT_THAT(run("quantize acme/Tiny-2B", before).err,
              AllOf(HasSubstr("error[E178]"), HasSubstr("hf download acme/Tiny-2B"),
                    HasSubstr("nearest name in the cache is acme/Tiny-1B")));
  fs::remove(snapshot / "model.safetensors");
  const Outcome incomplete = run("quantize acme/Tiny-1B", before);
  EXPECT_EQ(incomplete.exit_code, 3);
  EXPECT_THAT(incomplete.err,
              HasSubstr("error[E179]: acme/Tiny-1B in the Hugging Face cache is not "
                        "complete"));
}

TEST_F(Quantize, AModelThatIsNowhereIsRefusedWithWhatItMayBe) {
  const Outcome outcome = run("quantize nowhere");
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("MODEL is a folder, a GGUF file, or org/name"));
}

TEST_F(Quantize, TargetsThatCannotBeMadeAreRefused) {
  EXPECT_THAT(run("quantize " + demo() + "Q4_K_X").err,
              AllOf(HasSubstr("error[E119]: there is no target 'Q4_K_X'; did you mean Q4_K"),
                    HasSubstr("gptq-4bit")));
  EXPECT_THAT(run("quantize " + demo() + "--calibration a.txt b.txt").err,
              HasSubstr("there is no target 'b.txt' (each calibration file has a --calibration of "
                        "its own)"));
  EXPECT_THAT(run("quantize " + demo() + "gptq-4bit gptq-8bit").err,
              HasSubstr("one job cannot make both"));
}

TEST_F(Quantize, InitWritesAJobFileThatIsValidAndNeverReplacesOne) {
  const std::string file = shell_quoted(folder_ / "job.yaml");
  const std::string command = "init " + demo() + "gptq-3bit Q3_K_M --out " + file;
  const Outcome outcome = run(command);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("calque run " + (folder_ / "job.yaml").string()));
  const std::string text = contents_of(folder_ / "job.yaml");
  for (const char* key : {"n_samples:", "sources: [builtin]", "method: gptq", "group_size: 128",
                          "max_ram: 0", "windows: 40", "base_model: null", "run_dir: "})
    EXPECT_THAT(text, HasSubstr(key));
  EXPECT_EQ(run("validate " + file).exit_code, 0);
  EXPECT_THAT(run(command).err, HasSubstr("job.yaml' already exists; give --force"));
  EXPECT_EQ(run(command + " --force").exit_code, 0);
}

TEST(Target, NamesAreReadAsPeopleWriteThem) {
  for (const char* name : {"Q4_K_M", "q4_k_m", "q4km"})
    EXPECT_EQ(target_named(name).ending, "-Q4_K_M.gguf") << name;
  for (const char* name : {"gptq-4bit", "GPTQ-Int4", "gptq"})
    EXPECT_EQ(target_named(name).ending, "-GPTQ-Int4") << name;
  EXPECT_FALSE(target_named("Q8_0").needs_text);
  EXPECT_TRUE(target_named("Q6_K").needs_text);
  EXPECT_TRUE(target_named("MXFP4_MOE").needs_text);
  EXPECT_THROW(target_named("fp7"), Error);
}

TEST(Target, EveryRuntimesUsualTargetIsOneThatItLoads) {
  for (const Runtime& runtime : runtimes())
    EXPECT_THAT(target_named(std::string(runtime.usual)).loads_in,
                HasSubstr(std::string(runtime.label)));
}

}  // namespace
}  // namespace calque::cli
