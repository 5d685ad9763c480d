"""Object stores behind one small protocol: a directory, and S3. The one door to boto3.

Nothing here relies on conditional writes, which stores answer differently: keys are a function of a file's
path, a file is never rewritten, and one syncer writes below a prefix. What an upload is worth is found out
afterwards, by asking the store what it holds.
"""

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

__all__ = ["Digest", "LocalStore", "ObjectStore", "S3Settings", "S3Store", "StoreError", "Stored"]

_METADATA_KEY = "daedalus-sha256"
_MIB = 1 << 20
_PARTS_MAX = 10_000
_READ_BYTES = 1 << 20
_MD5_HEX = 32
_TRANSIENT_STATUS = 500  # and above: the server's trouble, not ours
_TOO_MANY = 429


class StoreError(Exception):
    """A store could not do it. `transient`: trying again may help."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class Digest(NamedTuple):
    """What a file is: its size and checksums, hex."""

    size: int  # bytes
    sha256: str
    md5: str

    @classmethod
    def of(cls, path: Path) -> "Digest":
        """Read `path` once."""
        sha, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                sha.update(block)
                md5.update(block)
                size += len(block)
        return cls(size, sha.hexdigest(), md5.hexdigest())


class Stored(NamedTuple):
    """What a store says it holds under a key."""

    size: int  # bytes
    sha256: str | None  # as the writer declared it
    computed_sha256: str | None = None  # as the store computed it
    computed_md5: str | None = None

    def proves(self, digest: Digest) -> str | None:
        """Return by which checksum of the store's own making it holds that content; None = by none."""
        if self.size != digest.size:
            return None
        if self.computed_sha256 == digest.sha256:
            return "sha256"
        return "md5" if self.computed_md5 == digest.md5 else None


class ObjectStore(Protocol):
    """Keys are relative, with slashes. Every method may raise StoreError."""

    def read(self, key: str) -> Iterator[bytes]:
        """Yield the content in blocks."""
        ...

    def write(self, key: str, path: Path, digest: Digest, stopping: Callable[[], bool]) -> None:
        """Store a file; picks up an interrupted upload of the same key."""
        ...

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, bytes) of what begins with `prefix`."""
        ...

    def delete(self, key: str) -> None:
        """Remove a key; that it is missing is fine."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy within the store."""
        ...

    def exists(self, key: str) -> Stored | None:
        """Return what is stored under a key, None = nothing."""
        ...


class LocalStore:
    """A directory as an object store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, key: str) -> Iterator[bytes]:
        """See ObjectStore."""
        with self._path(key).open("rb") as file:
            while block := file.read(_READ_BYTES):
                yield block

    def write(self, key: str, path: Path, digest: Digest, stopping: Callable[[], bool]) -> None:
        """See ObjectStore. Whole or not at all."""
        _ = digest, stopping
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.tmp")
        try:
            shutil.copyfile(path, draft)
            draft.rename(target)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error}", transient=True) from error

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See ObjectStore."""
        for path in sorted(self._root.rglob("*")):
            key = path.relative_to(self._root).as_posix()
            if path.is_file() and key.startswith(prefix) and not path.name.startswith("."):
                yield key, path.stat().st_size

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        self._path(key).unlink(missing_ok=True)

    def copy(self, source: str, target: str) -> None:
        """See ObjectStore."""
        path = self._path(source)
        self.write(target, path, Digest.of(path), lambda: False)

    def exists(self, key: str) -> Stored | None:
        """See ObjectStore."""
        path = self._path(key)
        if not path.is_file():
            return None
        digest = Digest.of(path)
        return Stored(digest.size, digest.sha256, digest.sha256, digest.md5)

    def _path(self, key: str) -> Path:
        return self._root / key


class S3Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where an S3 store is and how it wants to be spoken to; keys of `[sync]`."""

    bucket: str
    endpoint_url: str = ""  # empty: AWS
    region: str = ""
    path_style: bool = False
    ca_file: str = ""
    checksum: str = "when_supported"  # when_supported | when_required
    max_workers: int = 8
    multipart_mb: int = 8


class S3Store:
    """An S3 bucket. Credentials come from boto3's own chain. Methods may be called from several threads."""

    def __init__(self, settings: S3Settings) -> None:
        import boto3
        from botocore.config import Config

        self._bucket = settings.bucket
        self._checksum = settings.checksum == "when_supported"
        self._part_bytes = settings.multipart_mb * _MIB
        config = Config(
            s3={"addressing_style": "path" if settings.path_style else "auto"},
            max_pool_connections=settings.max_workers + 2,
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": 1},  # one place for retries: dataset.sync
            request_checksum_calculation="when_required",  # ours is SHA-256, and no trailer
            response_checksum_validation="when_required",
        )
        session = boto3.session.Session()
        self._s3: Any = session.client(
            "s3",
            endpoint_url=settings.endpoint_url or None,
            region_name=settings.region or session.region_name or "us-east-1",
            verify=settings.ca_file or None,
            config=config,
        )

    def read(self, key: str) -> Iterator[bytes]:
        """See ObjectStore."""
        with _translated("read", key):
            body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"]
            try:
                yield from body.iter_chunks(_READ_BYTES)
            finally:
                body.close()

    def write(self, key: str, path: Path, digest: Digest, stopping: Callable[[], bool]) -> None:
        """See ObjectStore. Beyond `multipart_mb` in parts, each with its own checksum."""
        with _translated("write", key):
            if digest.size > self._part_bytes:
                self._write_parts(key, path, digest, stopping)
                return
            with path.open("rb") as file:
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=file,
                    ContentLength=digest.size,
                    Metadata={_METADATA_KEY: digest.sha256},
                    **self._declared(bytes.fromhex(digest.sha256)),
                )

    def _write_parts(self, key: str, path: Path, digest: Digest, stopping: Callable[[], bool]) -> None:
        part_bytes = max(self._part_bytes, -(-digest.size // _PARTS_MAX))
        upload, present = self._unfinished(key)
        if not upload:
            algorithm = {"ChecksumAlgorithm": "SHA256"} if self._checksum else {}
            upload = self._s3.create_multipart_upload(
                Bucket=self._bucket, Key=key, Metadata={_METADATA_KEY: digest.sha256}, **algorithm
            )["UploadId"]
        parts = []
        with path.open("rb") as file:
            for number in range(1, -(-digest.size // part_bytes) + 1):
                if stopping():
                    raise StoreError(f"cannot finish {key}: stopped after {number - 1} parts", transient=True)
                block = file.read(part_bytes)
                md5 = hashlib.md5(block, usedforsecurity=False).hexdigest()
                declared = self._declared(hashlib.sha256(block).digest())
                etag = present.get(number)
                if etag is None or etag.strip('"') != md5:
                    etag = self._s3.upload_part(
                        Bucket=self._bucket,
                        Key=key,
                        UploadId=upload,
                        PartNumber=number,
                        Body=block,
                        **declared,
                    )["ETag"]
                parts.append({"PartNumber": number, "ETag": etag, **declared})
        self._s3.complete_multipart_upload(
            Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
        )

    def _unfinished(self, key: str) -> tuple[str, dict[int, str]]:
        """The upload of this key that a dead process left behind, and the ETags of its parts."""
        from botocore.exceptions import ClientError

        try:
            found = self._s3.list_multipart_uploads(Bucket=self._bucket, Prefix=key).get("Uploads", [])
            upload = next((item["UploadId"] for item in found if item["Key"] == key), "")
            if not upload:
                return "", {}
            pages = self._s3.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=key, UploadId=upload
            )
            return upload, {
                part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", [])
            }
        except ClientError:  # not every store can list them: begin anew
            return "", {}

    def _declared(self, sha256: bytes) -> dict[str, str]:
        return {"ChecksumSHA256": base64.b64encode(sha256).decode()} if self._checksum else {}

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See ObjectStore."""
        with _translated("list", prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"], item["Size"]

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        with _translated("delete", key):
            self._s3.delete_object(Bucket=self._bucket, Key=key)

    def copy(self, source: str, target: str) -> None:
        """See ObjectStore. On the server's side."""
        with _translated("copy", source):
            self._s3.copy_object(
                Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source}
            )

    def exists(self, key: str) -> Stored | None:
        """See ObjectStore. One HEAD request."""
        from botocore.exceptions import ClientError

        mode = {"ChecksumMode": "ENABLED"} if self._checksum else {}
        with _translated("look up", key):
            try:
                head = self._s3.head_object(Bucket=self._bucket, Key=key, **mode)
            except ClientError as error:
                if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                    return None
                raise
        checksum = head.get("ChecksumSHA256", "")
        whole = bool(checksum) and "-" not in checksum  # "…-3" is a checksum of checksums
        etag = head.get("ETag", "").strip('"').lower()
        return Stored(
            head["ContentLength"],
            head.get("Metadata", {}).get(_METADATA_KEY),
            base64.b64decode(checksum).hex() if whole else None,
            etag if len(etag) == _MD5_HEX else None,
        )


class _translated:  # noqa: N801 - reads as a phrase
    """Turns the many errors of botocore into one that says whether trying again may help."""

    def __init__(self, verb: str, key: str) -> None:
        self._what = f"cannot {verb} {key}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            transient = status >= _TRANSIENT_STATUS or status == _TOO_MANY
            raise StoreError(f"{self._what}: {error}", transient=transient) from error
        if isinstance(error, BotoCoreError | OSError):
            raise StoreError(f"{self._what}: {error}", transient=True) from error
