// Version ranges of plugins: what is inside, what is outside, what is none.
#include "abi/version_range.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace mambasdk::abi {
namespace {

TEST(VersionRange, InsideAndOutside) {
  struct Case {
    const char* version;
    const char* range;
    bool inside;
  };
  const Case cases[] = {
      {"2.13.0", ">=2.10,<3", true},
      {"2.9.1", ">=2.10,<3", false},
      {"3.0", ">=2.10,<3", false},
      {"3.0.0a0+git12", ">=2.10, <3", false},
      {"2.10", ">=2.10.0", true},
      {"2.10.0+cpu", "==2.10", true},
      {"2.13.1", "!=2.13.1", false},
      {"2.13.0", ">2.13", false},
      {"2.13.1", " > 2.13 , <= 2.14", true},
      {"2.14.0.dev20260101+cu130", ">=2.14", true},
      {"13", ">=12.8,<14", true},
      {"12.10", ">12.9", true},
      {"0", ">=0.0.0", true},
  };
  for (const Case& c : cases)
    EXPECT_EQ(version_in_range(c.version, c.range, "x"), c.inside) << c.version << " " << c.range;
}

TEST(VersionRange, WhatCannotBeReadIsRefusedAndNamed) {
  for (const char* range : {"", "2.10", "~=2.10", ">=", ">=2.10,", ">=two", "=>2", ">=2..1", ">=2.10 <3", ">= -1",
                            ">=99999999999999999999"}) {
    EXPECT_THROW((void)version_in_range("2.13", range, "plugin p: requires_torch"), Error) << range;
  }
  // Also where an earlier clause has decided already.
  EXPECT_THROW((void)version_in_range("1", ">=2,nonsense", "x"), Error);
  for (const char* version : {"", "new", "-1", ".1", "2 3", "1.2.3.4.5.6.7.8.9"}) {
    EXPECT_THROW(check_version(version, "torch"), Error) << version;
  }
  try {
    (void)version_in_range("2.13", "newest", "plugin p: requires_torch");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("plugin p: requires_torch"), std::string::npos);
  }
}

}  // namespace
}  // namespace mambasdk::abi
