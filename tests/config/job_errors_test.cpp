#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/job_text.h"

// Messages are part of the program's interface: place, code and wording are checked.

namespace calque::config {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(JobErrors, UnknownKeyNamesPlaceAndNearestKeyAndShowsTheLine) {
  const JobFolder folder;
  EXPECT_EQ(folder.refusal("version: 1\n"
                           "model: {path: m}\n"
                           "quantization:\n"
                           "  method: rtn\n"
                           "  group_sze: 128\n"
                           "export: [{format: gptq, path: o}]\n"),
            "job.yaml:5:3: error[E101]: unknown key 'group_sze' in quantization; did you mean "
            "'group_size'?\n"
            "      group_sze: 128\n"
            "      ^");
}

TEST(JobErrors, UnknownKeyIsToldWhereItBelongs) {
  const JobFolder folder;
  EXPECT_THAT(
      folder.refusal(kSmallJob + "bits: 4\n"),
      HasSubstr("job.yaml:7:1: error[E101]: unknown key 'bits' in the top level; it belongs "
                "in quantization"));
  EXPECT_THAT(folder.refusal(kSmallJob + "runtime: {temperature: 1}\n"),
              HasSubstr("unknown key 'temperature' in runtime; keys here: threads, forward_dtype, "
                        "device"));
}

TEST(JobErrors, DuplicateKeyNamesBothLines) {
  const JobFolder folder;
  const std::string message = folder.refusal(
      "version: 1\nmodel: {path: m}\nquantization:\n  bits: 4\n  method: rtn\n  bits: 3\n"
      "export: [{format: gptq, path: o}]\n");
  EXPECT_THAT(message, StartsWith("job.yaml:6:3: error[E102]: 'bits' is set twice (first at line "
                                  "4). Remove one."));
}

TEST(JobErrors, DuplicateSectionIsRefusedToo) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal(kSmallJob + "model: {path: other}\n"),
              StartsWith("job.yaml:7:1: error[E102]: 'model' is set twice (first at line 2)"));
}

TEST(JobErrors, OtherToolsNamesGetAHint) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration: {nsamples: 64}\n"),
              StartsWith("job.yaml:7:15: error[E103]: 'nsamples' is GPTQ's name. Write 'n_samples: "
                         "64' in calibration"));
}

TEST(JobErrors, WrongTypesSayWhatWasExpectedAndFound) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration: {add_bos: yes}\n"),
              StartsWith("job.yaml:7:24: error[E105]: calibration.add_bos must be true or false, "
                         "not 'yes'"));
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration: {seqlen: [1]}\n"),
              HasSubstr("calibration.seqlen must be an integer, not a list"));
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration: 5\n"),
              HasSubstr("calibration must be a section (key: value), not '5'"));
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration: {sources: {path: a}}\n"),
              HasSubstr("calibration.sources must be a list (- ...), not a section"));
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration: {sources: [a.txt]}\n"),
              HasSubstr("an entry of calibration.sources must be a section (path: FILE) or the "
                        "word builtin, not 'a.txt'"));
  EXPECT_THAT(folder.refusal("- a\n"), HasSubstr("the top level must be a section"));
}

TEST(JobErrors, AMissingValueIsShownAtItsKey) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration:\n  seqlen:\n  seed: 1\n"),
              StartsWith("job.yaml:8:3: error[E105]: calibration.seqlen must be an integer, not "
                         "nothing"));
}

TEST(JobErrors, EverythingIsReportedAtOnceInTheOrderOfTheFile) {
  const JobFolder folder;
  const std::string message = folder.refusal(
      "version: 2\n"
      "model: {}\n"
      "quantization: {method: gptp, bits: 9}\n"
      "export: [{format: gptq}]\n");
  const char* in_order[] = {
      "job.yaml:1:10: error[E110]: version must be 1",
      "job.yaml:2:1: error[E108]: model needs the key 'path'",
      "job.yaml:3:24: error[E107]: quantization.method must be one of rtn, gptq, awq, smoothquant, not 'gptp'",
      "job.yaml:3:36: error[E106]: quantization.bits must be 2 to 8, not 9",
      "job.yaml:4:10: error[E108]: export needs the key 'path'"};
  std::size_t at = 0;
  for (const char* part : in_order) {
    at = message.find(part, at);
    ASSERT_NE(at, std::string::npos) << part << "\nis not (or not in its place) in\n" << message;
  }
}

TEST(JobErrors, TheErrorCarriesTheCodeOfTheFirstFault) {
  const JobFolder folder;
  try {
    folder.load(kSmallJob + "bots: 1\nversion: 1\n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E101");
  }
}

TEST(JobErrors, MissingSectionsAreNamed) {
  const JobFolder folder;
  const std::string message = folder.refusal("name: x\n");
  EXPECT_THAT(message,
              HasSubstr("job.yaml:1:1: error[E108]: the top level needs the key 'version'"));
  EXPECT_THAT(message, HasSubstr("the top level needs the key 'model'"));
  EXPECT_THAT(message, HasSubstr("the top level needs the key 'export'"));
  EXPECT_THAT(folder.refusal(""), HasSubstr("error[E108]: the top level needs the key 'version'"));
}

TEST(JobErrors, AMethodAndAKeyThatContradictsItAreRefused) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal("version: 1\nmodel: {path: m}\nexport: [{format: gptq, path: o}]\n"
                             "quantization: {method: rtn, transform: awq}\n"),
              HasSubstr("job.yaml:4:16: error[E109]: 'method: rtn' contradicts the keys that it is "
                        "short for, which say awq"));
}

TEST(JobErrors, BitsThatASchemeHasNotAreRefused) {
  const JobFolder folder;
  const std::string job =
      "version: 1\nmodel: {path: m}\ncalibration: {tokens: t.safetensors}\n"
      "export: [{format: compressed-tensors, path: o, scheme: FP8_DYNAMIC}]\n";
  EXPECT_THAT(
      folder.refusal(job + "quantization: {bits: 4}\n"),
      StartsWith("job.yaml:5:16: error[E133]: bits is 4, but scheme FP8_DYNAMIC has 8: leave "
                 "out one of the two keys"));
  EXPECT_EQ(folder.load(job + "quantization: {bits: 8}\n").quantization.grid.bits, 8);
  EXPECT_EQ(folder.load(job).quantization.grid.group_size, -1);
}

TEST(JobErrors, GptqWithoutCalibrationDataIsRefused) {
  const JobFolder folder;
  const std::string job = "version: 1\nmodel: {path: m}\nexport: [{format: gptq, path: o}]\n";
  EXPECT_THAT(folder.refusal(job + "calibration: {seqlen: 8}\n"),
              StartsWith("job.yaml:4:1: error[E108]: method gptq needs calibration data: give "
                         "calibration.sources (calque's own texts: sources: [builtin]) or "
                         "calibration.tokens"));
  EXPECT_NO_THROW(folder.load(job + "calibration: {tokens: ids.safetensors}\n"));
}

TEST(JobErrors, SourcesAndTokensExcludeEachOther) {
  const JobFolder folder;
  EXPECT_THAT(
      folder.refusal(kSmallJob + "calibration:\n  tokens: a.safetensors\n  sources: [{path: b}]\n"),
      StartsWith("job.yaml:8:3: error[E109]: calibration has both sources and tokens"));
}

TEST(JobErrors, AnEvaluationNeedsTexts) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal(kSmallJob + "evaluate: {seqlen: 64}\n"),
              StartsWith("job.yaml:7:1: error[E108]: evaluate needs texts, such as texts: [{text: "
                         "heldout.txt}]"));
}

TEST(JobErrors, KeysThatWentSayWhatToWriteInstead) {
  const JobFolder folder;
  const auto refusal = [&](const std::string& keys) {
    return folder.refusal("version: 1\nmodel: {path: m}\nexport: [{format: gptq, path: o}]\n" +
                          keys);
  };
  EXPECT_THAT(refusal("quantization: {method: rtn, block_size: 64}\n"),
              StartsWith("job.yaml:4:29: error[E117]: 'block_size' is no longer a key. Columns are "
                         "processed in blocks of 128"));
  EXPECT_THAT(
      refusal("quantization: {method: awq, awq: {clip: false}}\n"),
      HasSubstr("error[E117]: 'clip' is no longer a key. Write 'scale_rule: block_search' in "
                "quantization"));
  EXPECT_THAT(
      refusal("evaluate: {text: held.txt}\n"),
      HasSubstr("error[E117]: 'text' is no longer a key. Write 'texts: [{text: held.txt}]' in "
                "evaluate"));
  EXPECT_THAT(refusal("evaluate: {tokens: t.safetensors}\n"),
              HasSubstr("Write 'texts: [{tokens: t.safetensors}]' in evaluate"));
  EXPECT_THAT(
      refusal("evaluate: {kv_cache: [{type: q8_0}]}\n"),
      HasSubstr("error[E117]: 'type' is no longer a key. Write 'k_type: q8_0, v_type: q8_0'"));
}

TEST(JobErrors, KeysOfTheOtherFormatAreRefused) {
  const JobFolder folder;
  const std::string head = "version: 1\nmodel: {path: m}\nquantization: {method: rtn}\nexport:\n";
  EXPECT_THAT(folder.refusal(head + "  - {format: gptq, path: o, type: Q4_0}\n"),
              StartsWith("job.yaml:5:29: error[E109]: 'type' only applies with format: "
                         "gguf. Remove it here."));
  EXPECT_THAT(folder.refusal(head + "  - {max_shard_size: 1GB, format: gguf, path: o}\n"),
              HasSubstr("'max_shard_size' only applies with format: gptq"));
}

TEST(JobErrors, AnEmptyExportListIsRefused) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal("version: 1\nmodel: {path: m}\nquantization: {method: rtn}\n"
                             "export: []\n"),
              StartsWith("job.yaml:4:1: error[E108]: export must have at least one entry"));
}

TEST(JobErrors, YamlsSharingFeaturesAreRefusedByName) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal("version: 1\nmodel: &m {path: a}\nexport: *m\n"),
              HasSubstr("job.yaml:2:8: error[E104]: anchors (&name) are not supported"));
  EXPECT_THAT(folder.refusal("version: 1\nmodel: &m {path: a}\nexport: *m\n"),
              HasSubstr("job.yaml:3:9: error[E104]: aliases (*name) are not supported"));
  EXPECT_THAT(folder.refusal(kSmallJob + "runtime: {<<: {threads: 2}}\n"),
              HasSubstr("error[E104]: merge keys (<<) are not supported"));
  EXPECT_THAT(folder.refusal("version: !!int 1\n"), HasSubstr("error[E104]: tags ("));
  EXPECT_THAT(folder.refusal(kSmallJob + "---\nversion: 1\n"),
              HasSubstr("error[E104]: a job file is one YAML document"));
  EXPECT_THAT(folder.refusal(kSmallJob + "? [a]\n: 3\n"), HasSubstr("a key must be a name"));
}

TEST(JobErrors, SyntaxErrorsHaveAPlace) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal("version: 1\nmodel: {path: a\nexport: b: c\n"),
              StartsWith("job.yaml:3:"));
  EXPECT_THAT(folder.refusal("version: 1\nmodel: {path: a\nexport: b: c\n"),
              HasSubstr("error[E104]: not valid YAML: "));
}

TEST(JobErrors, DeepNestingIsAnErrorAndNoCrash) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal("a: " + std::string(100'000, '[')), HasSubstr("E104"));
}

TEST(JobErrors, ControlCharactersOfTheFileDoNotReachTheTerminal) {
  const JobFolder folder;
  EXPECT_THAT(folder.refusal(kSmallJob + "nonsense: \"\x1b[31m\"\n"), Not(HasSubstr("\x1b")));
}

TEST(JobErrors, AJobFileThatCannotBeReadIsNamed) {
  const JobFolder folder;
  for (const auto& path : {folder.path() / "none.yaml", folder.path()}) {
    try {
      load_job(path);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      EXPECT_EQ(error.code(), "E111");
      EXPECT_THAT(error.what(), HasSubstr(path.string()));
    }
  }
  EXPECT_THAT(folder.refusal(std::string((1 << 20) + 1, '#')), HasSubstr("larger than 1 MiB"));
}

}  // namespace
}  // namespace calque::config
