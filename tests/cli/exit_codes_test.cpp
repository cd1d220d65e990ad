#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/program.h"
#include "cli/run_program.h"
#include "support/paths.h"

// The built program on bad input: the exit code, one message on stderr, nothing on stdout.

namespace calque::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class BadInput : public ::testing::Test {
 protected:
  void expect_refused(const std::string& arguments, int code, const std::string& message) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, code) << arguments << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << arguments;
    EXPECT_EQ(outcome.out, "") << arguments;
  }
  std::string path(const std::string& name) { return shell_quoted(folder_ / name); }

  testing::TempFolder folder_;
};

TEST(ExitCode, FollowsTheKindOfError) {
  EXPECT_EQ(exit_code(ErrorKind::kInternal), 1);
  EXPECT_EQ(exit_code(ErrorKind::kConfig), 2);
  EXPECT_EQ(exit_code(ErrorKind::kInput), 3);
  EXPECT_EQ(exit_code(ErrorKind::kResource), 4);
  EXPECT_EQ(exit_code(ErrorKind::kNumerical), 5);
  EXPECT_EQ(exit_code(ErrorKind::kVerification), 6);
}

TEST_F(BadInput, UsageIsTwo) {
  expect_refused("", 2, "error[E001]: A subcommand is required");
  expect_refused("rnu", 2,
                 "error[E001]: there is no command 'rnu'; commands: quantize, init, run, resume, ");
  expect_refused("run", 2, "error[E001]: job is required\nSee: calque run --help");
  expect_refused("run job.yaml --progress loud", 2, "--progress: loud not in");
  expect_refused("eval a.gguf --reference b", 2, "error[E001]: ");
  expect_refused("eval a.gguf --reference b --text c --tokens d", 2, "error[E001]: ");
  expect_refused("tokenize --tokenizer a", 2, "error[E001]: ");
}

TEST_F(BadInput, AFaultyJobFileIsTwoAndShowsThePlace) {
  write(folder_ / "job.yaml", "version: 1\nmodel: {pth: m}\n");
  for (const char* command : {"run ", "validate "}) {
    const Outcome outcome = run(command + path("job.yaml"));
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, StartsWith((folder_ / "job.yaml").string() +
                                        ":1:1: error[E108]: the top level needs the key 'export'"));
    EXPECT_THAT(outcome.err, HasSubstr(":2:9: error[E101]: unknown key 'pth' in model; did you "
                                       "mean 'path'?\n    model: {pth: m}\n            ^\n"));
  }
  expect_refused("validate " + path("none.yaml"), 2, "error[E111]: cannot read '");
}

TEST_F(BadInput, AnOverrideIsNamed) {
  expect_refused("validate " + test::configs() + "/demo.yaml --set quantization.bits=9", 2,
                 "--set quantization.bits=9: error[E106]: quantization.bits must be 2 to 8, not 9");
}

TEST_F(BadInput, AnUnreadableModelIsThree) {
  expect_refused("validate " + test::configs() + "/demo.yaml --set model.path=" + path("none"), 3,
                 "none");
  expect_refused("validate " + test::configs() + "/demo.yaml --set model.path=" + test::fixtures() +
                     "/artifacts/gguf/tiny-1layer-Q4_0.gguf",
                 3, "error[E169]: ");
  expect_refused("inspect " + path("none"), 3, "none");
  write(folder_ / "bad.gguf", "GGUF and then nothing of use");
  expect_refused("inspect " + path("bad.gguf"), 3, "bad.gguf");
  expect_refused("dequantize " + path("bad.gguf") + " --out " + path("out"), 3, "bad.gguf");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
  expect_refused("tokenize --tokenizer " + path(".") + " --string a", 3, "tokenizer");
  expect_refused("tokenize --tokenizer " + test::demo_model() + " --text " + path("none.txt"), 3,
                 "none.txt");
}

TEST_F(BadInput, AnExistingTargetIsTwo) {
  std::filesystem::create_directory(folder_ / "out");
  expect_refused("dequantize " + test::demo_model() + " --out " + path("out"), 2, "out");
  expect_refused("dequantize " + test::demo_model() + " --overwrite --out " + test::demo_model(), 2,
                 "is the artifact itself");
  EXPECT_TRUE(std::filesystem::exists(test::demo_model() + "/model.safetensors"));
}

TEST_F(BadInput, AnUnknownTensorIsTwoAndSimilarNamesAreGiven) {
  expect_refused("inspect " + test::demo_model() + " --tensor q_proj", 2,
                 "error[E171]: no tensor 'q_proj'; some that contain it: model.layers.0.self_attn."
                 "q_proj.weight");
  expect_refused("inspect " + test::demo_model() + " --tensor xyz", 2, "--tensors lists all");
}

TEST_F(BadInput, AFullDiskBehindStdoutIsFour) {
  const int status =
      std::system((shell_quoted(program()) + " schema >/dev/full 2>/dev/null").c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 4);
}

// 128 + the signal's number, as shells say it. The interrupted job has its staging folder on disk
// by then: planning takes milliseconds, rounding half a minute.
TEST_F(BadInput, TokenIdsBeyondTheVocabularyAreFoundByValidate) {
  const std::string header = R"({"input_ids":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  write(folder_ / "ids.safetensors", file + header + std::string("\1\0\0\0\0\0\1\0", 8));
  write(folder_ / "job.yaml", "version: 1\nmodel: {path: " + test::demo_model() +
                                  "}\ncalibration: {tokens: ids.safetensors, n_samples: 1, seqlen: "
                                  "2}\nexport: [{format: gptq, path: out}]\n");
  expect_refused("validate " + path("job.yaml"), 3,
                 "'input_ids' holds id 65536 at position 1, outside the vocabulary");
  expect_refused("validate " + path("job.yaml"), 3, "error[E214]: ");
}

// So `calque explain` has more to say.
TEST_F(BadInput, MessagesAboutAUsersFilesHaveCodes) {
  write(folder_ / "tokenizer.json", "{\"model\": ");
  expect_refused("tokenize --tokenizer " + path(".") + " --string a", 3,
                 "tokenizer.json: not JSON");
  expect_refused("tokenize --tokenizer " + path(".") + " --string a", 3, "error[E162]: ");
  write(folder_ / "notes.txt", "plain text");
  expect_refused("inspect " + path("notes.txt"), 3, "error[E170]: ");
  expect_refused("verify " + path("none"), 3, "error[E202]: ");
  const auto job = [&](const std::string& calibration, const std::string& exported) {
    write(folder_ / "job.yaml", "version: 1\nmodel: {path: " + test::demo_model() +
                                    "}\ncalibration: {" + calibration +
                                    ", n_samples: 1, seqlen: 8}\nexport: [" + exported + "]\n");
    return "run " + path("job.yaml") + " --progress none";
  };
  const std::string text = test::calibration_data() + "/prose.txt";
  const std::string folder = "{format: gptq, path: out}";
  expect_refused(job("tokens: notes.txt", folder), 3, "error[E214]: ");
  expect_refused(job("sources: [{path: " + text + ", weight: 1}, {path: " + text + "}]", folder), 2,
                 "error[E204]: the weights of the sources add up to 1");
}

TEST_F(BadInput, ARefusedJobLeavesNoFolders) {
  write(folder_ / "job.yaml",
        "version: 1\nmodel: {path: " + (folder_ / "none").string() +
            "}\nquantization: {method: rtn}\nexport: [{format: gptq, path: out/a}]\n"
            "run_dir: runs/a\n");
  const Outcome outcome = run("run " + path("job.yaml"));
  EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "runs"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

TEST(Interrupted, LeavesNothingBehind) {
  const testing::TempFolder folder;
  for (const auto& [signal, code] : {std::pair{"INT", 130}, std::pair{"TERM", 143}}) {
    const std::string command =
        std::string("timeout --preserve-status -s ") + signal + " 3 " + shell_quoted(program()) +
        " run " + test::configs() +
        "/demo.yaml --progress none --set export.0.path=" + shell_quoted(folder / "gptq") +
        " --set export.1.path=" + shell_quoted(folder / "q.gguf") +
        " --set run_dir=" + shell_quoted(folder / "run") + " >/dev/null 2>" +
        shell_quoted(folder / "err");
    const int status = std::system(command.c_str());
    EXPECT_EQ(WEXITSTATUS(status), code) << signal;
    EXPECT_THAT(contents_of(folder / "err"), HasSubstr("nothing half-written was kept"));
    for (const char* name : {"gptq", "gptq.partial", "q.gguf", "q.gguf.partial"})
      EXPECT_FALSE(std::filesystem::exists(folder / name)) << name;
  }
}

}  // namespace
}  // namespace calque::cli
