# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
#
# One program for each tests/unit/test_NAME.c; its source is found by its name.
# They and the contract suite speak TAP, so that the harness counts cases.
unit_tests = \
	tests/unit/test_base \
	tests/unit/test_cache \
	tests/unit/test_chunks \
	tests/unit/test_control \
	tests/unit/test_crc \
	tests/unit/test_credentials \
	tests/unit/test_credentials_refresh \
	tests/unit/test_credentials_remote \
	tests/unit/test_credentials_reply \
	tests/unit/test_crypto \
	tests/unit/test_engine_attempts \
	tests/unit/test_engine_cached \
	tests/unit/test_engine_clone \
	tests/unit/test_engine_content \
	tests/unit/test_engine_durable \
	tests/unit/test_engine_exchange \
	tests/unit/test_engine_exclusive \
	tests/unit/test_engine_former \
	tests/unit/test_engine_hidden \
	tests/unit/test_engine_kill \
	tests/unit/test_engine_links \
	tests/unit/test_engine_moved \
	tests/unit/test_engine_names \
	tests/unit/test_engine_opening \
	tests/unit/test_engine_pairs \
	tests/unit/test_engine_pending \
	tests/unit/test_engine_rekey \
	tests/unit/test_engine_rename \
	tests/unit/test_engine_s3ec \
	tests/unit/test_engine_resume \
	tests/unit/test_engine_unsettled \
	tests/unit/test_engine_volume \
	tests/unit/test_engine_whole \
	tests/unit/test_format_example \
	tests/unit/test_fs_exchange \
	tests/unit/test_fs_inode \
	tests/unit/test_geometry \
	tests/unit/test_header \
	tests/unit/test_http \
	tests/unit/test_interrupt \
	tests/unit/test_journal \
	tests/unit/test_keyring \
	tests/unit/test_keyring_source \
	tests/unit/test_kms \
	tests/unit/test_metrics \
	tests/unit/test_names \
	tests/unit/test_options \
	tests/unit/test_process \
	tests/unit/test_records \
	tests/unit/test_retry \
	tests/unit/test_s3ec \
	tests/unit/test_s3ec_seal \
	tests/unit/test_sigv4 \
	tests/unit/test_source \
	tests/unit/test_store_fault \
	tests/unit/test_store_file \
	tests/unit/test_store_s3 \
	tests/unit/test_store_sse \
	tests/unit/test_thread \
	tests/unit/test_trailer \
	tests/unit/test_volume \
	tests/unit/test_volume_plugin \
	tests/unit/test_wire \
	tests/unit/test_wrap \
	tests/unit/test_xattrs \
	tests/unit/test_xml

# The contract of a store, against the local folder; tests/e2e runs it against servers.
contract_tests = \
	tests/contract/contract \
	tests/contract/fault.tap
tests_contract_contract_SOURCES = \
	tests/contract/calls.c \
	tests/contract/contract.c \
	tests/contract/contract.h \
	tests/contract/lists.c \
	tests/contract/objects.c \
	tests/contract/uploads.c

# What the crash tests run on a mount; crash_shim.c is built by them.
check_PROGRAMS += tests/e2e/crash_workload
tests_e2e_crash_workload_SOURCES = tests/e2e/crash_workload.c
tests_e2e_crash_workload_LDADD =

# Without a fuzzing library the targets are built too, with a main that replays files.
fuzz_targets = \
	tests/fuzz/fuzz_control \
	tests/fuzz/fuzz_credentials \
	tests/fuzz/fuzz_header \
	tests/fuzz/fuzz_keyring \
	tests/fuzz/fuzz_kms \
	tests/fuzz/fuzz_names \
	tests/fuzz/fuzz_plugin \
	tests/fuzz/fuzz_record \
	tests/fuzz/fuzz_reply \
	tests/fuzz/fuzz_s3ec \
	tests/fuzz/fuzz_trailer \
	tests/fuzz/fuzz_volume

if FUZZERS
fuzz_main =
noinst_PROGRAMS += $(fuzz_targets)
else
fuzz_main = tests/fuzz/main.c
endif
tests_fuzz_fuzz_control_SOURCES = tests/fuzz/fuzz_control.c $(fuzz_main)
tests_fuzz_fuzz_control_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_control_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_credentials_SOURCES = tests/fuzz/fuzz_credentials.c $(fuzz_main)
tests_fuzz_fuzz_credentials_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_credentials_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_header_SOURCES = tests/fuzz/fuzz_header.c $(fuzz_main)
tests_fuzz_fuzz_header_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_header_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_keyring_SOURCES = tests/fuzz/fuzz_keyring.c $(fuzz_main)
tests_fuzz_fuzz_keyring_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_keyring_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_kms_SOURCES = tests/fuzz/fuzz_kms.c $(fuzz_main)
tests_fuzz_fuzz_kms_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_kms_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_names_SOURCES = tests/fuzz/fuzz_names.c $(fuzz_main)
tests_fuzz_fuzz_names_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_names_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_plugin_SOURCES = tests/fuzz/fuzz_plugin.c $(fuzz_main)
tests_fuzz_fuzz_plugin_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_plugin_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_record_SOURCES = tests/fuzz/fuzz_record.c $(fuzz_main)
tests_fuzz_fuzz_record_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_record_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_reply_SOURCES = tests/fuzz/fuzz_reply.c $(fuzz_main)
tests_fuzz_fuzz_reply_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_reply_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_s3ec_SOURCES = tests/fuzz/fuzz_s3ec.c $(fuzz_main)
tests_fuzz_fuzz_s3ec_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_s3ec_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_trailer_SOURCES = tests/fuzz/fuzz_trailer.c $(fuzz_main)
tests_fuzz_fuzz_trailer_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_trailer_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)
tests_fuzz_fuzz_volume_SOURCES = tests/fuzz/fuzz_volume.c $(fuzz_main)
tests_fuzz_fuzz_volume_LDADD = $(S3C_LIBS)
tests_fuzz_fuzz_volume_LDFLAGS = $(AM_LDFLAGS) $(S3C_FUZZ_LINK)

# What make bench runs; the first two also by hand, on the disk in question.
check_PROGRAMS += tests/bench/cache_bench tests/bench/journal_bench tests/bench/file_bench \
	tests/bench/null_fuse
tests_bench_cache_bench_SOURCES = tests/bench/cache_bench.c
tests_bench_cache_bench_LDADD = $(S3C_LIBS)
tests_bench_journal_bench_SOURCES = tests/bench/journal_bench.c
tests_bench_journal_bench_LDADD = $(S3C_LIBS)
tests_bench_file_bench_SOURCES = tests/bench/file_bench.c
tests_bench_file_bench_LDADD = $(S3C_LIBS)
tests_bench_null_fuse_SOURCES = tests/bench/null_fuse.c
tests_bench_null_fuse_LDADD = $(S3C_LIBS)

if HAVE_CMOCKA
check_PROGRAMS += $(unit_tests) tests/contract/contract
TESTS += $(unit_tests) $(contract_tests)
else
TESTS += tests/no-cmocka.sh
endif
if !FUZZERS
check_PROGRAMS += $(fuzz_targets)
endif
TESTS += tests/check-docs.sh tests/check-layers.sh tests/check-tests.sh tests/replay-corpus.sh

TEST_EXTENSIONS = .sh .tap
tap_driver = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(tap_driver)
TAP_LOG_DRIVER = $(tap_driver)
LOG_COMPILER = $(top_srcdir)/tests/run-tap
TAP_LOG_COMPILER = $(top_srcdir)/tests/run-tap
AM_TESTS_ENVIRONMENT = CMOCKA_MESSAGE_OUTPUT=TAP; S3C_TEST_DATA='$(abs_top_srcdir)/tests'; \
	export CMOCKA_MESSAGE_OUTPUT S3C_TEST_DATA;

tests/check-docs.log: s3cryptfs$(EXEEXT) s3cryptfsctl$(EXEEXT)
tests/contract/fault.log: tests/contract/contract$(EXEEXT)
tests/replay-corpus.log: $(fuzz_targets:=$(EXEEXT))

EXTRA_DIST += \
	tests/check-docs.sh \
	tests/check-layers.sh \
	tests/check-tests.sh \
	tests/contract/fault.tap \
	tests/data/s3ec \
	tests/fuzz/corpus \
	tests/no-cmocka.sh \
	tests/replay-corpus.sh \
	tests/run-tap \
	tests/unit/credentials_fixture.h \
	tests/unit/durable_fixture.h \
	tests/unit/links_fixture.h \
	tests/unit/engine_fixture.h \
	tests/unit/failing_journal.h \
	tests/unit/fake_engine.h \
	tests/unit/http_server.h \
	tests/unit/killed_fixture.h \
	tests/unit/dir_fixture.h \
	tests/unit/object_fixture.h \
	tests/unit/s3ec_vectors.h \
	tests/unit/through_store.h \
	tests/bench/bench.py \
	tests/bench/local_parts.py \
	tests/e2e/beside.py \
	tests/e2e/conftest.py \
	tests/e2e/crash_model.py \
	tests/e2e/crash_shim.c \
	tests/e2e/crash_tools.py \
	tests/e2e/decoder.py \
	tests/e2e/harness.py \
	tests/e2e/test_attacks.py \
	tests/e2e/test_bad_input.py \
	tests/e2e/test_fsck.py \
	tests/e2e/test_observe.py \
	tests/e2e/test_budget.py \
	tests/e2e/test_cache.py \
	tests/e2e/test_containers.py \
	tests/e2e/test_copy.py \
	tests/e2e/test_contract.py \
	tests/e2e/test_crash.py \
	tests/e2e/test_credentials.py \
	tests/e2e/test_ctl.py \
	tests/e2e/test_decoder.py \
	tests/e2e/test_epochs.py \
	tests/e2e/test_exchange.py \
	tests/e2e/test_faults.py \
	tests/e2e/test_files.py \
	tests/e2e/test_java.py \
	tests/e2e/test_kernel.py \
	tests/e2e/test_keys.py \
	tests/e2e/test_kms.py \
	tests/e2e/test_large.py \
	tests/e2e/test_late.py \
	tests/e2e/test_links.py \
	tests/e2e/test_posix.py \
	tests/e2e/test_readme.py \
	tests/e2e/test_rekey.py \
	tests/e2e/test_machines.py \
	tests/e2e/matrix.py \
	tests/e2e/test_matrix.py \
	tests/e2e/test_migrate.py \
	tests/e2e/test_mounting.py \
	tests/e2e/test_package.py \
	tests/e2e/test_names.py \
	tests/e2e/test_posix.py \
	tests/e2e/test_suites.py \
	tests/e2e/test_resume.py \
	tests/e2e/test_s3.py \
	tests/e2e/s3ec_client.py \
	tests/e2e/test_s3ec.py \
	tests/e2e/test_s3ec_kms.py \
	tests/e2e/test_servers.py \
	tests/e2e/test_service.py \
	tests/e2e/test_sse.py \
	tests/e2e/test_s3ec_write.py \
	tests/e2e/test_umount.py \
	tests/e2e/test_user.py \
	tests/e2e/test_soak.py \
	tests/e2e/test_volume.py \
	tests/e2e/test_volume_plugin.py \
	tests/java/S3ecTool.java \
	tests/java/pom.xml \
	tests/servers/__init__.py \
	tests/servers/base.py \
	tests/servers/moto.py \
	tests/servers/proxy.conf \
	tests/servers/proxy.py \
	tests/servers/radosgw.py \
	tests/servers/versitygw.py \
	tests/vectors/sigv4.json
