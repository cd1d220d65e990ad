// Chat templates against what the renderer of transformers makes of them (tests/fixtures/chat).
#include "calque/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "calque/io/file.h"
#include "text/support.h"

namespace calque::text {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string rendered(const std::string& source, const io::Json& variables = io::Json::object()) {
  return ChatTemplate(source, "t").render(variables);
}

// The text, or nullopt as where the other renderer fails.
std::optional<std::string> text_or_failure(const std::string& source, const io::Json& variables) {
  try {
    return rendered(source, variables);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInput);
    EXPECT_THAT(error.code(), ::testing::AnyOf("E215", "E216"));
    return std::nullopt;
  }
}

std::optional<std::string> expected_text(const io::Json& json) {
  return json.is_null() ? std::nullopt : std::optional(json.string());
}

class Language : public ::testing::TestWithParam<std::string> {};

TEST_P(Language, HasJinjasTexts) {
  const io::Json cases = io::read_json(chat_fixtures() / "language.json");
  for (const io::Json& one : cases.at("templates").at(GetParam()).elements()) {
    const std::string source = one.at("template").string();
    EXPECT_EQ(text_or_failure(source, cases.at("variables")), expected_text(one.at("text")))
        << source;
  }
}

INSTANTIATE_TEST_SUITE_P(Of, Language,
                         ::testing::Values("whitespace", "literals", "operators", "access",
                                           "if and for", "set and scope", "macros", "filters",
                                           "tojson", "tests", "methods", "time and errors"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

class PublishedTemplate : public ::testing::TestWithParam<const char*> {};

TEST_P(PublishedTemplate, RendersConversationsAsTransformersDoes) {
  const std::string name = GetParam();
  const std::string source = io::read_file(chat_fixtures() / "templates" / (name + ".jinja"));
  const io::Json conversations = io::read_json(chat_fixtures() / "conversations.json");
  const io::Json expected = io::read_json(chat_fixtures() / "expected" / (name + ".json"));
  for (const io::Json::Member& conversation : conversations.members()) {
    io::Json variables = {{"tools", nullptr},
                          {"add_generation_prompt", false},
                          {"bos_token", "<s>"},
                          {"eos_token", "</s>"}};
    for (const io::Json::Member& variable : conversation.value.members())
      variables[variable.name] = variable.value;
    EXPECT_EQ(text_or_failure(source, variables), expected_text(expected.at(conversation.name)))
        << conversation.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Of, PublishedTemplate,
                         ::testing::Values("chatml", "deepseek_r1_distill", "deepseekv3",
                                           "gemma4_v5", "glm4moe", "gptoss", "phi3", "phi3_5",
                                           "qwen2_5", "qwen3", "qwen3_5_think", "qwen3_6",
                                           "qwen3_instruct_2507", "qwen3_training", "qwen3_vl",
                                           "smollm2", "smolvlm"));

// ---- What is refused says what and where

std::string error_in(const std::string& source,
                     const io::Json& variables = {{"messages", io::Json::array()}}) {
  return error_of([&] { rendered(source, variables); });
}

TEST(ChatTemplate, NamesTheStatementThatItDoesNotKnow) {
  EXPECT_EQ(error_in("a\nb\n{% include 'x' %}"), "E215: t:3: the statement 'include' is not known");
}
TEST(ChatTemplate, NamesTheFilterThatItDoesNotKnow) {
  EXPECT_EQ(error_in("\n{{ 'x' | urlize }}"), "E216: t:2: the filter 'urlize' is not known");
}
TEST(ChatTemplate, NamesTheTestThatItDoesNotKnow) {
  EXPECT_EQ(error_in("{{ 'x' is escaped }}"), "E216: t:1: the test 'escaped' is not known");
}
TEST(ChatTemplate, NamesTheMethodThatItDoesNotKnow) {
  EXPECT_EQ(error_in("{{ 'x'.zfill(3) }}"), "E216: t:1: the method zfill of a string is not known");
}
TEST(ChatTemplate, NamesTheArgumentThatItDoesNotKnow) {
  EXPECT_EQ(error_in("{{ [1] | tojson(spaces=1) }}"),
            "E216: t:1: tojson: the argument 'spaces' is not known");
}
TEST(ChatTemplate, RefusesToChangeValues) {
  EXPECT_EQ(error_in("{{ messages.append(1) }}"),
            "E216: t:1: append would change a list; chat templates may not change values");
}
TEST(ChatTemplate, PassesOnTheTemplatesOwnRefusal) {
  EXPECT_EQ(error_in("{{ raise_exception('roles must alternate') }}"),
            "E216: t:1: the template refuses the conversation: roles must alternate");
}
TEST(ChatTemplate, SaysWhatIsUndefined) {
  EXPECT_EQ(error_in("\n\n{{ message.content }}"), "E216: t:3: 'message' is undefined");
  EXPECT_EQ(error_in("{{ {'a': 1}.b.c }}"), "E216: t:1: a dict has no 'b'");
}
TEST(ChatTemplate, NamesTheLineOfTheMacrosFault) {
  EXPECT_EQ(error_in("{% macro m() %}\n\n{{ 1 / 0 }}{% endmacro %}\n\n{{ m() }}"),
            "E216: t:3: division by zero");
}

TEST(ChatTemplate, HasTheTimeThatItIsGiven) {
  EXPECT_EQ(ChatTemplate("{{ strftime_now('%Y-%m-%d %H:%M') }}", "t")
                .render(io::Json::object(), 1'000'000'000),
            "2001-09-09 01:46");
}

// ---- Templates that would harm

std::string repeated(const std::string& text, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(HostileTemplate, DoesNotNestWithoutBound) {
  for (const char* one :
       {"(", "[", "-", "not ", "{'a':", "{% if x %}", "x if y else ", "x(", "x|default("}) {
    const bool statement = one[0] == '{' && one[1] == '%';
    const std::string source = (statement ? "" : "{{ ") + repeated(one, 100000) + "x }}";
    EXPECT_THAT(error_in(source), StartsWith("E215")) << one;
  }
}
TEST(HostileTemplate, DoesNotChainWithoutBound) {
  for (const char* one : {".x", "[0]", "()", "|trim", " + 1", " and 1", " is x is not x", " < 1"})
    EXPECT_THAT(error_in("{{ x" + repeated(one, 100000) + " }}"), StartsWith("E2")) << one;
}
TEST(HostileTemplate, DoesNotCallItselfForever) {
  EXPECT_THAT(error_in("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("nests too deeply"));
}
TEST(HostileTemplate, DoesNotFillTheMemory) {
  EXPECT_THAT(error_in("{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(100) %}"
                       "{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
              HasSubstr("too much text"));
  EXPECT_THAT(error_in("{{ 'abc' * 1000000000000 }}"), HasSubstr("too m"));
  EXPECT_THAT(error_in("{{ [1] * 1000000000000 }}"), HasSubstr("too much text"));
  EXPECT_THAT(error_in("{{ range(1000000000)|list }}"), HasSubstr("range is longer"));
}
TEST(HostileTemplate, DoesNotRunForever) {
  EXPECT_THAT(error_in("{% for a in range(100000) %}{% for b in range(100000) %}"
                       "{% endfor %}{% endfor %}"),
              ::testing::AnyOf(HasSubstr("too many steps"), HasSubstr("too much text")));
}
TEST(HostileTemplate, DoesNotNestValuesWithoutBound) {
  EXPECT_THAT(error_in("{% set ns = namespace(x=[]) %}{% for i in range(100000) %}"
                       "{% set ns.x = [ns.x] %}{% endfor %}"),
              HasSubstr("nests lists and dicts"));
  EXPECT_THAT(error_in("{% set ns = namespace(x=[]) %}{% for i in range(100) %}"
                       "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}"),
              HasSubstr("too m"));
}
TEST(HostileTemplate, MayHoldItself) {
  EXPECT_EQ(
      rendered("{% set ns = namespace() %}{% set ns.self = ns %}{{ ns.self.self is defined }}"),
      "True");
}

}  // namespace
}  // namespace calque::text
