// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The s3cryptfs authors
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.interfaces.RSAPrivateCrtKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.RSAPublicKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

import javax.crypto.spec.SecretKeySpec;

import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.checksums.RequestChecksumCalculation;
import software.amazon.awssdk.core.checksums.ResponseChecksumValidation;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.core.sync.ResponseTransformer;
import software.amazon.awssdk.http.SdkHttpRequest;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.GetObjectRequest;
import software.amazon.awssdk.services.s3.model.PutObjectRequest;
import software.amazon.encryption.s3.CommitmentPolicy;
import software.amazon.encryption.s3.S3EncryptionClient;
import software.amazon.encryption.s3.algorithms.AlgorithmSuite;
import software.amazon.encryption.s3.internal.InstructionFileConfig;
import software.amazon.encryption.s3.materials.AesKeyring;
import software.amazon.encryption.s3.materials.KmsKeyring;
import software.amazon.encryption.s3.materials.MaterialsDescription;
import software.amazon.encryption.s3.materials.PartialRsaKeyPair;
import software.amazon.encryption.s3.materials.RsaKeyring;
import software.amazon.encryption.s3.materials.S3Keyring;

/**
 * The Amazon S3 Encryption Client for Java at the end of a pipe: one command a line, words parted by
 * tabs, one answer a line, "ok" or "error CLASS: MESSAGE".
 *
 *   client NAME VERSION KIND KEY [OPTION]... [desc NAME VALUE]...
 *       VERSION: 2 or 3, of what it writes; KIND: aes (KEY: base64), rsa (KEY: base64 of PKCS#8),
 *       kms (KEY: ARN; desc: the encryption context); OPTION: multipart, instruction (files)
 *   put NAME BUCKET KEY FILE
 *   get NAME BUCKET KEY FILE
 *
 * usage: S3ecTool ENDPOINT ACCESS-KEY SECRET-KEY
 */
public class S3ecTool {
    private static final long BUFFER = 512L << 20; // it keeps a whole object before it gives it out

    private final S3Client plain;
    private final S3AsyncClient async;
    private final KmsClient kms;
    private final Map<String, S3EncryptionClient> clients = new HashMap<>();
    private final Map<String, Map<String, String>> contexts = new HashMap<>();

    /** moto answers "100 Continue", which the asynchronous client takes for the answer. */
    private static class NoExpect implements ExecutionInterceptor {
        @Override
        public SdkHttpRequest modifyHttpRequest(Context.ModifyHttpRequest context, ExecutionAttributes attributes) {
            return context.httpRequest().toBuilder().removeHeader("Expect").build();
        }
    }

    private S3ecTool(URI endpoint, String accessKey, String secretKey) {
        AwsCredentialsProvider credentials =
                StaticCredentialsProvider.create(AwsBasicCredentials.create(accessKey, secretKey));
        plain = S3Client.builder().endpointOverride(endpoint).region(Region.US_EAST_1).credentialsProvider(credentials)
                .overrideConfiguration(config -> config.addExecutionInterceptor(new NoExpect()))
                .forcePathStyle(true).requestChecksumCalculation(RequestChecksumCalculation.WHEN_REQUIRED)
                .responseChecksumValidation(ResponseChecksumValidation.WHEN_REQUIRED).build();
        async = S3AsyncClient.builder().endpointOverride(endpoint).region(Region.US_EAST_1).credentialsProvider(credentials)
                .overrideConfiguration(config -> config.addExecutionInterceptor(new NoExpect()))
                .forcePathStyle(true).requestChecksumCalculation(RequestChecksumCalculation.WHEN_REQUIRED)
                .responseChecksumValidation(ResponseChecksumValidation.WHEN_REQUIRED).build();
        kms = KmsClient.builder().endpointOverride(endpoint).region(Region.US_EAST_1).credentialsProvider(credentials)
                .build();
    }

    private S3Keyring keyring(String kind, String key, Map<String, String> desc) throws Exception {
        MaterialsDescription description = MaterialsDescription.builder().putAll(desc).build();
        switch (kind) {
        case "aes":
            return AesKeyring.builder().wrappingKey(new SecretKeySpec(Base64.getDecoder().decode(key), "AES"))
                    .materialsDescription(description).build();
        case "rsa": {
            KeyFactory factory = KeyFactory.getInstance("RSA");
            RSAPrivateCrtKey secret = (RSAPrivateCrtKey) factory.generatePrivate(
                    new PKCS8EncodedKeySpec(Base64.getDecoder().decode(key)));
            KeyPair pair = new KeyPair(factory.generatePublic(
                    new RSAPublicKeySpec(secret.getModulus(), secret.getPublicExponent())), secret);
            return RsaKeyring.builder().wrappingKeyPair(new PartialRsaKeyPair(pair)).materialsDescription(description).build();
        }
        case "kms":
            return KmsKeyring.builder().kmsClient(kms).wrappingKeyId(key).build();
        default:
            throw new IllegalArgumentException("kind " + kind);
        }
    }

    private void client(String[] words) throws Exception {
        boolean multipart = false, instruction = false;
        Map<String, String> desc = new HashMap<>();
        for (int i = 5; i < words.length; i++) {
            if (words[i].equals("multipart")) {
                multipart = true;
            } else if (words[i].equals("instruction")) {
                instruction = true;
            } else if (words[i].equals("desc")) {
                desc.put(words[i + 1], words[i + 2]);
                i += 2;
            } else {
                throw new IllegalArgumentException("option " + words[i]);
            }
        }
        S3EncryptionClient.Builder builder = S3EncryptionClient.builderV4().wrappedClient(plain).wrappedAsyncClient(async)
                .keyring(keyring(words[3], words[4], desc)).enableMultipartPutObject(multipart).setBufferSize(BUFFER)
                .instructionFileConfig(InstructionFileConfig.builder().instructionFileClient(plain)
                        .enableInstructionFilePutObject(instruction).build());
        if (words[2].equals("2")) {
            builder.commitmentPolicy(CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT)
                    .encryptionAlgorithm(AlgorithmSuite.ALG_AES_256_GCM_IV12_TAG16_NO_KDF);
        } else {
            builder.commitmentPolicy(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
        }
        clients.put(words[1], builder.build());
        if (words[3].equals("kms")) {
            contexts.put(words[1], desc);
        }
    }

    private void put(String name, String bucket, String key, Path file) {
        PutObjectRequest.Builder request = PutObjectRequest.builder().bucket(bucket).key(key);
        if (contexts.containsKey(name)) {
            request.overrideConfiguration(S3EncryptionClient.withAdditionalConfiguration(contexts.get(name)));
        }
        clients.get(name).putObject(request.build(), RequestBody.fromFile(file));
    }

    private void get(String name, String bucket, String key, Path file) {
        GetObjectRequest.Builder request = GetObjectRequest.builder().bucket(bucket).key(key);
        if (contexts.containsKey(name)) {
            request.overrideConfiguration(S3EncryptionClient.withAdditionalConfiguration(contexts.get(name)));
        }
        clients.get(name).getObject(request.build(), ResponseTransformer.toFile(file));
    }

    private void run(String line) throws Exception {
        String[] words = line.split("\t", -1);
        switch (words[0]) {
        case "client":
            client(words);
            break;
        case "put":
            put(words[1], words[2], words[3], Paths.get(words[4]));
            break;
        case "get":
            get(words[1], words[2], words[3], Paths.get(words[4]));
            break;
        default:
            throw new IllegalArgumentException("command " + words[0]);
        }
    }

    public static void main(String[] args) throws Exception {
        S3ecTool tool = new S3ecTool(URI.create(args[0]), args[1], args[2]);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = in.readLine()) != null) {
            String answer = "ok";
            try {
                tool.run(line);
            } catch (Exception | AssertionError e) {
                Throwable cause = e.getCause() == null ? e : e.getCause();
                answer = ("error " + e.getClass().getSimpleName() + ": " + e.getMessage() + " (" + cause + ")")
                        .replaceAll("\\s+", " ");
            }
            System.out.println(answer);
            System.out.flush();
        }
        System.exit(0);
    }
}
