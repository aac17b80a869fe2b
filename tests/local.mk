# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
#
# One program for each tests/unit/test_NAME.c; its source is found by its name.
# They and the contract suite speak TAP, so that the harness counts cases.
unit_tests = \
	tests/unit/test_base \
	tests/unit/test_crc \
	tests/unit/test_credentials \
	tests/unit/test_crypto \
	tests/unit/test_http \
	tests/unit/test_retry \
	tests/unit/test_sigv4 \
	tests/unit/test_thread \
	tests/unit/test_xml

if HAVE_CMOCKA
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
else
TESTS += tests/no-cmocka.sh
endif
TESTS += tests/check-layers.sh tests/check-tests.sh

TEST_EXTENSIONS = .sh .tap
tap_driver = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(tap_driver)
TAP_LOG_DRIVER = $(tap_driver)
LOG_COMPILER = $(top_srcdir)/tests/run-tap
TAP_LOG_COMPILER = $(top_srcdir)/tests/run-tap
AM_TESTS_ENVIRONMENT = CMOCKA_MESSAGE_OUTPUT=TAP; S3C_TEST_DATA='$(abs_top_srcdir)/tests'; \
	export CMOCKA_MESSAGE_OUTPUT S3C_TEST_DATA;

tests/contract/fault.log:$(EXEEXT)

EXTRA_DIST += \
	tests/check-layers.sh \
	tests/check-tests.sh \
	tests/no-cmocka.sh \
	tests/run-tap \
	tests/unit/http_server.h \
	tests/vectors/sigv4.json
