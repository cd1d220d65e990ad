#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "calque/config/job_file.h"
#include "calque/formats/reader.h"
#include "calque/io/json.h"
#include "calque/model/config.h"
#include "cli/program.h"
#include "cli/run_program.h"
#include "support/paths.h"

// The built program on the demo model, without a forward pass: round to nearest needs none.

namespace calque::cli {
namespace {

using json = io::Json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kRtnJob =
    "version: 1\n"
    "name: rtn\n"
    "model: {path: " +
    test::demo_model() +
    "}\n"
    "quantization: {method: rtn, bits: 4, group_size: 64, scale_rule: minmax}\n"
    "export:\n"
    "  - {format: gptq, path: gptq}\n"
    "  - {format: gguf, path: demo.gguf, type: Q4_0}\n"
    "run_dir: run\n";

// One run for all the tests that look at what it wrote.
class RtnRun : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TempFolder;
    write(*folder_ / "job.yaml", kRtnJob);
    outcome_ = new Outcome(run("run --progress plain " + path("job.yaml")));
  }
  static void TearDownTestSuite() {
    delete outcome_;
    delete folder_;
  }
  static std::string path(const std::string& name) { return shell_quoted(*folder_ / name); }

  static testing::TempFolder* folder_;
  static Outcome* outcome_;
};
testing::TempFolder* RtnRun::folder_ = nullptr;
Outcome* RtnRun::outcome_ = nullptr;

TEST_F(RtnRun, PrintsTheTableOnStdoutAndProgressOnStderr) {
  ASSERT_EQ(outcome_->exit_code, 0) << outcome_->err;
  EXPECT_THAT(outcome_->out, StartsWith("model      format"));
  EXPECT_THAT(outcome_->out, HasSubstr("\ngptq "));
  EXPECT_THAT(outcome_->out, HasSubstr("\ndemo.gguf  GGUF Q4_0"));
  EXPECT_THAT(outcome_->out, HasSubstr("vllm serve " + path("gptq")));
  EXPECT_THAT(outcome_->out, HasSubstr("llama-cli -m " + path("demo.gguf")));
  EXPECT_THAT(outcome_->err, HasSubstr("[1/6] model.layers.0  q 4b 0."));
}

TEST(RtnRunOnATerminal, ShowsABarOfTheWholeJob) {
  const testing::TempFolder folder;
  write(folder / "job.yaml", kRtnJob);
  const Outcome outcome = run("run --progress tty " + shell_quoted(folder / "job.yaml"));
  EXPECT_THAT(outcome.err,
              ::testing::ContainsRegex("\\[=*>\\.*\\] +[0-9]+ %  .*MiB  model.layers.0  q 4b 0.0"));
}

TEST_F(RtnRun, LeavesAJobFileThatGivesTheSameJob) {
  const auto resolved = *folder_ / "run/job.resolved.yaml";
  EXPECT_EQ(contents_of(resolved), config::resolved_yaml(config::load_job(*folder_ / "job.yaml")));
  EXPECT_EQ(config::resolved_yaml(config::load_job(resolved)), contents_of(resolved));
}

TEST_F(RtnRun, RefusesToOverwriteItsOwnArtifacts) {
  const Outcome again = run("run " + path("job.yaml"));
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("gptq"));
}

TEST_F(RtnRun, InspectPrintsJsonThatAddsUp) {
  for (const char* name : {"gptq", "demo.gguf"}) {
    const Outcome outcome = run("inspect --json " + path(name));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json artifact = io::parse_json(outcome.out);
    EXPECT_EQ(artifact.at("layers"), 6);
    std::uint64_t bytes = 0;
    for (const json& tensor : artifact.at("tensors").elements())
      bytes += tensor.at("bytes").get<std::uint64_t>();
    std::uint64_t by_type = 0;
    for (const json& type : artifact.at("types").elements())
      by_type += type.at("bytes").get<std::uint64_t>();
    EXPECT_EQ(bytes, by_type);
    EXPECT_GT(artifact.at("file_bytes").get<std::uint64_t>(), bytes);
    EXPECT_GT(artifact.at("bits_per_weight").get<double>(), 4);
    EXPECT_LT(artifact.at("bits_per_weight").get<double>(), 16);
  }
}

TEST_F(RtnRun, InspectShowsTheCodesOfATensor) {
  const Outcome outcome =
      run("inspect --json --tensor model.layers.3.mlp.down_proj.weight " + path("gptq"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json tensor = io::parse_json(outcome.out);
  ASSERT_EQ(tensor.at("code_counts").size(), 16u);
  std::int64_t codes = 0;
  for (const json& count : tensor.at("code_counts").elements()) codes += count.get<std::int64_t>();
  EXPECT_EQ(codes, 256 * 768);  // hidden x intermediate size
  EXPECT_EQ(tensor.at("nonfinite"), 0);
  EXPECT_LT(tensor.at("min").get<double>(), 0);
}

TEST_F(RtnRun, InspectListsTensorsForPeople) {
  const Outcome outcome = run("inspect --tensors " + path("demo.gguf"));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, StartsWith("gguf: LlamaForCausalLM, 6 layers, hidden 256, vocabulary "
                                      "4096\n"));
  EXPECT_THAT(outcome.out, HasSubstr("model.layers.5.mlp.down_proj.weight"));
}

TEST_F(RtnRun, DequantizeWritesAPlainCheckpointWithTheSameValues) {
  for (const std::string name : {"gptq", "demo.gguf"}) {
    const std::string out = name + "-plain";
    const Outcome outcome = run("dequantize --dtype float32 " + path(name) + " --out " + path(out));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const auto artifact = formats::open_artifact(*folder_ / name);
    const auto plain = formats::open_artifact(*folder_ / out);
    EXPECT_EQ(plain->format(), "safetensors");
    EXPECT_EQ(plain->config().dtype, "float32");
    EXPECT_EQ(plain->config().rope.theta, artifact->config().rope.theta);
    ASSERT_EQ(plain->tensors().size(), 57u);  // 6 blocks of 9, embedding, final norm, head
    for (const formats::StoredTensor& tensor : plain->tensors()) {
      const Matrix<float> expected = artifact->load(tensor.name);
      const Matrix<float> actual = plain->load(tensor.name);
      ASSERT_EQ(actual.size(), expected.size()) << tensor.name;
      EXPECT_TRUE(std::equal(actual.data(), actual.data() + actual.size(), expected.data()))
          << tensor.name;
    }
  }
}

TEST_F(RtnRun, DequantizeCopiesSideFilesOfAFolder) {
  ASSERT_EQ(run("dequantize " + path("gptq") + " --out " + path("side")).exit_code, 0);
  EXPECT_EQ(contents_of(*folder_ / "side/tokenizer.model"),
            contents_of(test::demo_model() + "/tokenizer.model"));
  EXPECT_FALSE(std::filesystem::exists(*folder_ / "side/quantize_config.json"));
  EXPECT_THAT(contents_of(*folder_ / "side/config.json"),
              ::testing::Not(HasSubstr("quantization_config")));
}

TEST(Validate, DescribesTheExportsOfTheDemo) {
  const Outcome outcome = run("validate " + test::configs() + "/demo.yaml");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("export"));
  EXPECT_TRUE(outcome.out.ends_with("\nok\n")) << outcome.out;
  EXPECT_EQ(outcome.err, "");
}

TEST(Validate, ShowsHowAGgufFileIsMadeUp) {
  const Outcome types = run("validate " + test::configs() + "/demo.yaml");
  EXPECT_THAT(types.out, HasSubstr("\ndemo-Q4_0.gguf\nstored as  tensors  % of weights"));
  EXPECT_THAT(types.out, HasSubstr("\nQ4_0 "));
  EXPECT_THAT(types.out, ::testing::Not(HasSubstr("blk.0.ffn_down.weight")));
  const Outcome tensors = run("validate --tensors " + test::configs() + "/demo.yaml");
  EXPECT_EQ(tensors.exit_code, 0) << tensors.err;
  EXPECT_THAT(tensors.out, HasSubstr("\nblk.0.ffn_down.weight "));
  EXPECT_THAT(tensors.out, HasSubstr("\nmodel.layers.0.mlp.down_proj.weight "));
  EXPECT_TRUE(tensors.out.ends_with("\nok\n")) << tensors.out;
}

TEST(Validate, PrintsTheResolvedJobAndJson) {
  const Outcome resolved = run("validate --resolved " + test::configs() + "/demo.yaml");
  EXPECT_EQ(resolved.out, config::resolved_yaml(config::load_job(test::configs() + "/demo.yaml")));
  const json plans = io::parse_json(run("validate --json " + test::configs() + "/demo.yaml").out);
  ASSERT_GE(plans.at("exports").size(), 2u);
  for (const json& plan : plans.at("exports").elements()) EXPECT_GE(plan.at("tensors").size(), 57u);
}

TEST(Schema, PrintsTheKeyReference) { EXPECT_EQ(run("schema").out, config::key_reference()); }

TEST(Tokenize, PrintsIdsAsJson) {
  const std::string tokenizer = "tokenize --tokenizer " + test::demo_model() + " ";
  const json ids = io::parse_json(run(tokenizer + "--json --string 'Once upon a time'").out);
  ASSERT_GT(ids.size(), 2u);
  const json framed =
      io::parse_json(run(tokenizer + "--json --add-special --string 'Once upon a time'").out);
  ASSERT_EQ(framed.size(), ids.size() + 1);  // tokenizer_config.json: a BOS, no EOS
  EXPECT_EQ(framed.at(0), 1);
  EXPECT_EQ(json(json::Array(framed.elements().begin() + 1, framed.elements().end())), ids);
}

TEST(Tokenize, ShowsConversationsAsTheModelsTemplateWritesThem) {
  const std::string tokenizer = "tokenize --tokenizer " + test::fixtures() + "/tokenizers/smollm2 ";
  const testing::TempFolder folder;
  const std::filesystem::path chat = folder.path() / "chat.jsonl";
  std::ofstream(chat) << R"({"messages": [{"role": "system", "content": "Be brief."}]})"
                      << "\n";
  const Outcome outcome = run(tokenizer + "--render --text " + chat.string());
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "<|im_start|>system\nBe brief.<|im_end|>\n\n");
  EXPECT_THAT(run(tokenizer + "--render --string x").err, HasSubstr("give --text FILE"));
}

TEST(Tokenize, CountsTheTokensOfAFile) {
  const Outcome outcome = run("tokenize --tokenizer " + test::demo_model() + " --text " +
                              test::calibration_data() + "/heldout_pride_and_prejudice.txt");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(" tokens\nfirst ids: "));
}

// Expected counts from llama-tokenize, BOS included.
TEST(Tokenize, TakesAGgufFile) {
  const std::string golden = test::fixtures() + "/artifacts/gguf/";
  const Outcome outcome = run("tokenize --add-special --tokenizer " + golden +
                              "tiny-f16.gguf --text " + golden + "imatrix_text.txt");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("tiny-f16.gguf: SentencePiece BPE, 320 tokens\n9950 tokens\n"
                                      "first ids: 1 273 311 277 287 287 286 278 "));
}

TEST(Doctor, PrintsWhatABugReportNeeds) {
  const Outcome outcome = run("doctor --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json facts = io::parse_json(outcome.out);
  for (const char* key :
       {"calque", "compiler", "block runner", "devices", "used of them", "threads", "memory"})
    EXPECT_NE(facts.at(key).get<std::string>(), "") << key;
  EXPECT_THAT(facts.at("devices").get<std::string>(), StartsWith("cpu"));
  EXPECT_EQ(facts.at("cpu"), "all operations");
}

// Lists the accelerators, or the reason that there are none.
TEST(Doctor, TellsOfAccelerators) {
  const json facts = io::parse_json(run("doctor --json").out);
  if (facts.at("devices") == "cpu")
    EXPECT_THAT(facts.at("accelerators").get<std::string>(), StartsWith("none: "));
  else
    EXPECT_THAT(facts.at("cuda:0").get<std::string>(), HasSubstr(" free; "));
}

TEST(Help, NamesExamplesAndExitCodesEverywhere) {
  for (const std::string command : {"", "run ", "validate ", "eval ", "inspect ", "verify ",
                                    "dequantize ", "tokenize ", "schema ", "doctor "}) {
    const Outcome outcome = run(command + "--help");
    EXPECT_EQ(outcome.exit_code, 0) << command;
    const std::string name = command.substr(0, command.find(' '));
    EXPECT_THAT(outcome.out, HasSubstr("Examples:\n  calque " + name)) << command;
    EXPECT_THAT(outcome.out, HasSubstr(kExitCodes)) << command;
    EXPECT_EQ(outcome.err, "") << command;
  }
}

TEST(Version, NamesTheCommitOrSaysThatItIsNotKnown) {
  const Outcome outcome = run("--version");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, ::testing::MatchesRegex(
                               "calque [0-9]+\\.[0-9]+\\.[0-9]+ "
                               "\\((commit [0-9a-f]{10}( with changes)?, [0-9]{4}-[0-9]{2}-[0-9]{2}"
                               "|built without git: commit not known)\\)\n"));
}

}  // namespace
}  // namespace calque::cli
